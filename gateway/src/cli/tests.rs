//! Every documented command is understood as it is written.

use super::*;
use clap::CommandFactory;

/// As README, help texts and operators write them.
const EXAMPLES: &[&str] = &[
    "tenant create --name acme --requests-per-minute 600",
    "tenant list --status suspended --with-deleted --limit 5 --after ten_1 --json",
    "tenant show acme --field id",
    "tenant update acme --name acme-eu",
    "tenant suspend acme --yes",
    "tenant resume acme",
    "tenant create --name acme --idempotency-key caprock-1 --admin-url http://gateway:8081 --insecure-http",
    "tenant delete acme -y",
    "project create --tenant acme --name web",
    "project list --tenant acme",
    "project show web --tenant acme",
    "project update web --tenant acme --name shop",
    "project delete web --tenant acme --yes",
    "key create --tenant acme --project web --name ci --role tenant_developer --operations inference,control_plane \
     --models amazon.nova-*,b --dialects openai --ip-ranges 10.0.0.0/8 --expires-in 90d --requests-per-minute 60",
    "key create --tenant acme --service-account sva_1 --name ci --expires-at 2027-01-31",
    "key list --tenant acme --project web --with-revoked",
    "key show key_1 --tenant acme",
    "key update key_1 --tenant acme --models any --expires-at never --tokens-per-minute none",
    "key rotate key_1 --tenant acme --overlap 24h",
    "key revoke key_1 --tenant acme",
    "key delete key_1 --tenant acme",
    "access-key create --tenant acme --project web --name boto",
    "access-key rotate key_1 --tenant acme --overlap 0s",
    "access-key revoke key_1 --tenant acme",
    "service-account create --tenant acme --project web --name deployer --jwt-issuer https://idp.example --jwt-subject ci",
    "service-account list --tenant acme --project web",
    "service-account show sva_1 --tenant acme",
    "service-account update sva_1 --tenant acme --no-jwt --operations inference",
    "service-account delete sva_1 --tenant acme --yes",
    "limit show --tenant acme",
    "limit show --tenant acme --key key_1",
    "limit set --tenant acme --project web --requests-per-minute 60 --concurrent-requests none",
    "limit set --tenant acme --access-key key_1 --tokens-per-minute 1000",
    "model list --served --layer api",
    "model list --served false",
    "model show amazon.nova-lite-v1:0",
    "model add example.m --name M --provider Example --input-price 0.02 --output-price 0.04 --stand-in other",
    "model add example.m --file model.json",
    "model update example.m --stand-in none",
    "model deprecate example.m --sunset 2027-07-01 --replacement other --message Bye",
    "model deprecate example.m --undo",
    "model delete example.m --yes",
    "model alias fast example.m",
    "model unalias fast",
    "model aliases",
    "model status",
    "model-access show --tenant acme --project web --model fast",
    "model-access set --tenant acme --models amazon.nova-*",
    "model-access set --tenant acme --none",
    "model-access clear --tenant acme --project web",
    "usage --tenant acme --group-by project,day --from 7d --to 2027-01-31",
    "request list --tenant acme --state settled --outcome completed --from 1h",
    "request show req_1",
    "request show req_1 --tenant ten_1",
    "admin-token create --name terraform --role platform_admin --operations administer --ip-ranges 10.0.0.0/8",
    "admin-token list --with-revoked",
    "admin-token show adm_1",
    "admin-token update adm_1 --role platform_viewer --ip-ranges any",
    "admin-token rotate adm_1",
    "admin-token revoke adm_1",
    "worker list --json",
    "audit list --tenant acme --action project.create --from 7d --limit 5",
    "doctor --json",
    "--config caprock.toml doctor",
];

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["caprock"].into_iter().chain(line.split_whitespace()))
}

#[test]
fn the_command_line_contradicts_itself_nowhere() {
    Cli::command().debug_assert();
}

#[test]
fn every_example_is_understood() {
    for example in EXAMPLES {
        if let Err(error) = parse(example) {
            panic!("{example}\n{error}");
        }
    }
}

#[test]
fn every_command_has_an_example() {
    fn leaves(command: &clap::Command, path: &str, all: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
        if command.get_subcommands().next().is_none() {
            all.push(path);
            return;
        }
        command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| leaves(sub, &path, all));
    }
    let elsewhere = ["serve", "migrate", "bootstrap", "openapi", "secrets", "audit"];
    let mut all = Vec::new();
    for command in Cli::command().get_subcommands().filter(|command| !elsewhere.contains(&command.get_name())) {
        leaves(command, "", &mut all);
    }
    assert!(all.len() > 45, "{all:?}");
    // What holds for keys holds for access keys: they are one command.
    for path in all.iter().filter(|path| !path.starts_with("access-key ")) {
        assert!(EXAMPLES.iter().any(|example| example.starts_with(path)), "`{path}` has no example");
    }
}

#[test]
fn what_can_not_be_meant_is_refused_before_anything_is_sent() {
    for line in [
        "tenant create",
        "tenant delete",
        "project create --name web --tenant",
        "key create --tenant a --name k",
        "key create --tenant a --name k --project p --service-account sva_1",
        "key create --tenant a --name k --project p --expires-in soon",
        "key rotate key_1 --tenant a --overlap forever",
        "limit set --tenant a --project p --key k --requests-per-minute 1",
        "limit set --tenant a --requests-per-minute many",
        "model-access set --tenant a",
        "model deprecate m --undo --message x",
        "service-account create --tenant a --project p --name n --jwt-issuer i",
        "tenant list --limit 0",
        "tenant list --json --field id",
        "admin-token create --name x --role tenant_owner",
        "usage --tenant a --limit 1001",
        "usage --tenant a --from someday",
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("`{line}` was understood"));
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn no_help_shows_the_token_in_the_environment() {
    let arg = Cli::command();
    let show = arg.find_subcommand("tenant").and_then(|tenant| tenant.find_subcommand("show")).cloned();
    let token = show.and_then(|show| show.get_arguments().find(|arg| arg.get_id() == "admin_token").cloned());
    assert!(token.is_some_and(|token| token.is_hide_env_values_set()));
}
