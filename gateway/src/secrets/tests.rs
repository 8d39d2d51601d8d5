use super::rotate::rotate_from;
use super::*;
use std::os::unix::fs::PermissionsExt;

fn nothing_set(_: &str) -> Option<String> {
    None
}

/// Text that is long enough and differs by name.
fn text_of(name: &str) -> String {
    format!("{name:_<40}")
}

fn only<'a>(names: &'a [&'a str]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| names.contains(&name).then(|| text_of(name))
}

const FIRST: [&str; 3] = ["CAPROCK_PEPPER", "CAPROCK_MASTER_KEY", "CAPROCK_CLUSTER_SECRET"];
const SECOND: [&str; 5] = [FIRST[0], FIRST[1], FIRST[2], "CAPROCK_PEPPER_2", "CAPROCK_MASTER_KEY_2"];

/// From the environment alone.
fn of(names: &[&str]) -> Secrets {
    of_pinned(names, SecretVersions::default()).unwrap()
}

fn of_pinned(names: &[&str], pinned: SecretVersions) -> Result<Secrets> {
    let dir = tempfile::tempdir().unwrap();
    Secrets::load_from(dir.path(), &pinned, only(names))
}

fn pinned(pepper: u8, master_key: u8) -> SecretVersions {
    SecretVersions { pepper_version: Some(pepper), master_key_version: Some(master_key) }
}

#[test]
fn what_the_first_release_digested_and_sealed_still_works() {
    // Made by the program as it was before there were versions.
    let secrets = of(&SECOND);
    let digest = secrets.digest(1, "AbCdEfGhIjKl", "secret-of-32-characters-length-x").unwrap();
    assert_eq!(hex::encode(digest), "dd827e5c78d02f0f5d90214d870ecabf32cf31b236384893235fe303fcb394aa");
    let sealed = "v1.NLC3L4vG5LY9sRkBlGWcS_pFX-CJkJJO_t0BDptq4E1JZdx1qhEW58tJkjX9GxHIsv5VMH0";
    assert_eq!(secrets.open(sealed, "CKIA1").unwrap().expose(), "wJalrXUtnFEMI");
}

#[test]
fn missing_secrets_are_named_together_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let text = Secrets::load_with(dir.path(), nothing_set).unwrap_err().message;
    for name in ["CAPROCK_PEPPER", "CAPROCK_MASTER_KEY", "CAPROCK_CLUSTER_SECRET", "caprock bootstrap"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn an_empty_or_short_secret_is_refused_even_when_a_good_file_is_there() {
    let dir = tempfile::tempdir().unwrap();
    Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    for variable in ["CAPROCK_PEPPER", "CAPROCK_PEPPER_7"] {
        for bad in ["", "   ", &"x".repeat(31), &format!(" {} ", "x".repeat(31))] {
            let set = |name: &str| (name == variable).then(|| bad.to_owned());
            let text = Secrets::load_with(dir.path(), set).unwrap_err().message;
            assert!(text.contains(variable) && !text.contains("MASTER"), "{text}");
            assert!(bad.trim().is_empty() || !text.contains(bad.trim()), "an error repeats a secret");
        }
    }
    std::fs::write(dir.path().join("secrets/pepper"), "\n").unwrap();
    assert!(Secrets::load_with(dir.path(), nothing_set).unwrap_err().message.contains("CAPROCK_PEPPER"));
}

#[test]
fn made_secrets_are_private_and_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    let again = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    assert_eq!(first.digest(1, "id", "secret"), again.digest(1, "id", "secret"));
    assert_ne!(first.peppers.current_secret().0, first.master_keys.current_secret().0);
    for file in ["pepper", "master-key", "cluster"] {
        let mode = std::fs::metadata(dir.path().join("secrets").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn where_only_a_later_version_is_left_no_first_one_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let set = only(&["CAPROCK_PEPPER_3"]);
    let secrets = Secrets::load_or_create_with(dir.path(), set).unwrap();
    assert_eq!(secrets.pepper_version(), 3);
    assert!(secrets.digest(1, "id", "secret").is_none());
    let files: std::collections::BTreeSet<_> =
        std::fs::read_dir(dir.path().join("secrets")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files.into_iter().collect::<Vec<_>>(), ["cluster", "master-key"]);
}

#[test]
fn whoever_sees_a_secrets_file_sees_it_whole_and_all_makers_agree_on_it() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets/pepper");
        let texts: Vec<String> = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                loop {
                    if let Ok(text) = std::fs::read_to_string(&path) {
                        return text;
                    }
                }
            });
            let makers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        PEPPER.create(1, dir.path()).unwrap();
                        std::fs::read_to_string(&path).unwrap()
                    })
                })
                .collect();
            makers.into_iter().chain([watcher]).map(|thread| thread.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|text| text.len() == 65 && *text == texts[0]), "{texts:?}");
        assert_eq!(std::fs::read_dir(dir.path().join("secrets")).unwrap().count(), 1, "a second name was left");
    }
}

#[test]
fn a_variable_goes_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let from_file = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    let from_both = Secrets::load_with(dir.path(), only(&["CAPROCK_PEPPER"])).unwrap();
    assert_ne!(from_file.digest(1, "id", "secret"), from_both.digest(1, "id", "secret"));
    assert_eq!(from_file.master_keys.current_secret().0, from_both.master_keys.current_secret().0);
}

#[test]
fn the_highest_version_is_current_unless_one_is_pinned_and_all_are_usable() {
    let (old, new) = (of(&FIRST), of(&SECOND));
    assert_eq!((old.pepper_version(), new.pepper_version()), (1, 2));
    assert_eq!(old.digest(1, "id", "secret"), new.digest(1, "id", "secret"));
    assert_ne!(new.digest(1, "id", "secret"), new.digest(2, "id", "secret"));
    assert!(old.digest(2, "id", "secret").is_none());
    for odd in [-1, 0, 3, 99, 100, 256, 257, i64::MIN, i64::MAX] {
        assert!(new.digest(odd, "id", "secret").is_none(), "{odd}");
    }

    let held_back = of_pinned(&SECOND, pinned(1, 1)).unwrap();
    assert_eq!(held_back.pepper_version(), 1);
    assert!(held_back.seal(&SecretText::new("text".into()), "row").unwrap().starts_with("v1."));
    assert_eq!(held_back.digest(2, "id", "secret"), new.digest(2, "id", "secret"));

    let text = of_pinned(&SECOND, pinned(3, 4)).unwrap_err().message;
    for part in ["secrets.pepper_version is 3", "secrets/pepper.3", "secrets.master_key_version is 4", "1, 2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn versions_may_leave_gaps_and_come_from_both_places() {
    let dir = tempfile::tempdir().unwrap();
    Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    std::fs::write(dir.path().join("secrets/pepper.99"), "f".repeat(64)).unwrap();
    // Not versions: a copy that somebody made, and a number too high.
    std::fs::write(dir.path().join("secrets/pepper.99.bak"), "short").unwrap();
    std::fs::write(dir.path().join("secrets/pepper.100"), "short").unwrap();
    let secrets = Secrets::load_with(dir.path(), only(&["CAPROCK_PEPPER_5"])).unwrap();
    let [pepper, master_key] = secrets.status();
    let loaded: Vec<(u8, &str)> = pepper.versions.iter().map(|at| (at.version, at.from.as_str())).collect();
    assert_eq!(loaded, [(1, "secrets/pepper"), (5, "CAPROCK_PEPPER_5"), (99, "secrets/pepper.99")]);
    assert_eq!((pepper.current, pepper.pinned, master_key.current), (99, false, 1));
}

#[test]
fn a_version_named_twice_over_or_set_to_an_older_ones_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    let text = Secrets::load_with(dir.path(), only(&["CAPROCK_PEPPER_1"])).unwrap_err().message;
    assert!(text.contains("CAPROCK_PEPPER_1 is set"), "{text}");
    std::fs::write(dir.path().join("secrets/master-key.1"), "f".repeat(64)).unwrap();
    let text = Secrets::load_with(dir.path(), nothing_set).unwrap_err().message;
    assert!(text.contains("secrets/master-key.1 is there"), "{text}");
    std::fs::remove_file(dir.path().join("secrets/master-key.1")).unwrap();

    std::fs::copy(dir.path().join("secrets/pepper"), dir.path().join("secrets/pepper.2")).unwrap();
    let text = Secrets::load_with(dir.path(), nothing_set).unwrap_err().message;
    assert!(text.contains("CAPROCK_PEPPER_2 is the same as CAPROCK_PEPPER"), "{text}");
}

#[test]
fn equal_texts_of_two_versions_of_two_installations_make_unlike_keys() {
    let first = |name: &str| FIRST.contains(&name).then(|| "t".repeat(40));
    let third =
        |name: &str| ["CAPROCK_PEPPER_3", "CAPROCK_MASTER_KEY_3", FIRST[2]].contains(&name).then(|| "t".repeat(40));
    let dir = tempfile::tempdir().unwrap();
    let (one, three) = (Secrets::load_with(dir.path(), first).unwrap(), Secrets::load_with(dir.path(), third).unwrap());
    assert_ne!(one.digest(1, "id", "secret"), three.digest(3, "id", "secret"));
    assert_ne!(one.master_keys.current_secret().0, three.master_keys.current_secret().0);
}

#[test]
fn a_sealed_secret_opens_only_whole_with_its_key_and_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    let sealed = secrets.seal(&SecretText::new("wJalr".into()), "CKIA1").unwrap();
    assert!(sealed.starts_with("v1.") && !sealed.contains("wJalr"));
    assert_eq!(secrets.open(&sealed, "CKIA1").unwrap().expose(), "wJalr");
    assert_ne!(sealed, secrets.seal(&SecretText::new("wJalr".into()), "CKIA1").unwrap(), "a nonce was used twice");

    assert!(secrets.open(&sealed, "CKIA2").is_err(), "another owner");
    assert!(secrets.open(&sealed.replacen("v1", "v2", 1), "CKIA1").is_err(), "another key version");
    for broken in ["", "v1", "v1.", "v1.AAAA", "v.AAAA", &sealed[..sealed.len() - 4]] {
        assert!(secrets.open(broken, "CKIA1").is_err(), "{broken}");
    }
    for respelled in ["v01.", "v+1.", "V1.", "v1 .", "v257.", "1."] {
        assert!(secrets.open(&sealed.replacen("v1.", respelled, 1), "CKIA1").is_err(), "{respelled}");
    }
    assert!(of(&FIRST).open(&sealed, "CKIA1").is_err(), "another master key");
}

#[test]
fn a_seal_says_its_version_and_moves_to_the_current_key_for_the_same_owner() {
    let (old, new) = (of(&FIRST), of(&SECOND));
    let sealed = old.seal(&SecretText::new("wJalr".into()), "CKIA1").unwrap();
    assert!(old.seal_is_current(&sealed) && !new.seal_is_current(&sealed));
    assert_eq!(old.reseal(&sealed, "CKIA1").unwrap(), None);
    let moved = new.reseal(&sealed, "CKIA1").unwrap().unwrap();
    assert!(moved.starts_with("v2.") && new.seal_is_current(&moved));
    assert_eq!(new.open(&moved, "CKIA1").unwrap().expose(), "wJalr");
    assert_eq!(new.open(&sealed, "CKIA1").unwrap().expose(), "wJalr", "the old seal is still good");
    assert!(new.reseal(&sealed, "CKIA2").is_err(), "another owner");
    assert!(new.open(&moved.replacen("v2", "v1", 1), "CKIA1").is_err(), "a seal under another version's name");

    let error = old.open(&moved, "CKIA1").unwrap_err();
    assert!(error.cause().unwrap().to_string().contains("version 2"), "{error:?}");
    assert!(!new.seal_is_current("nonsense"));
}

#[test]
fn rotation_makes_the_next_file_that_the_next_start_uses_and_touches_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let first = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
    let rotate = |what, set: &dyn Fn(&str) -> Option<String>| {
        rotate_from(dir.path(), &SecretVersions::default(), what, set).unwrap()
    };
    let made = rotate(Rotated::Pepper, &nothing_set);
    assert_eq!((made.version, made.before, made.pinned), (2, 1, false));
    assert_eq!(made.path, dir.path().join("secrets/pepper.2"));
    assert_eq!(std::fs::metadata(&made.path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = Secrets::load_with(dir.path(), nothing_set).unwrap();
    assert_eq!((second.pepper_version(), second.master_keys.current()), (2, 1));
    assert_eq!(first.digest(1, "id", "secret"), second.digest(1, "id", "secret"));

    assert_eq!(rotate(Rotated::Pepper, &nothing_set).version, 3);
    assert_eq!(rotate(Rotated::MasterKey, &only(&["CAPROCK_MASTER_KEY_41"])).version, 42);
    let last = only(&["CAPROCK_PEPPER_99"]);
    let full = rotate_from(dir.path(), &SecretVersions::default(), Rotated::Pepper, last).unwrap_err();
    assert_eq!(full.kind, ErrorKind::Conflict);
}

#[test]
fn an_installation_without_secrets_has_nothing_to_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let refused = rotate_from(dir.path(), &SecretVersions::default(), Rotated::Pepper, nothing_set).unwrap_err();
    assert!(refused.message.contains("caprock bootstrap"), "{}", refused.message);
    assert!(!dir.path().join("secrets").exists());
}

#[test]
fn nothing_secret_prints() {
    let secrets = of(&SECOND);
    let printed = format!("{secrets:?} {:?} {:?}", secrets.status(), SecretText::new("hunter2".into()));
    assert!(printed.contains("Secret(…)") && printed.contains("SecretText(…)"), "{printed}");
    for (text, key) in [("hunter2", None), (&*text_of("CAPROCK_PEPPER"), secrets.peppers.get(1))] {
        assert!(!printed.contains(text), "{printed}");
        assert!(key.is_none_or(|key| !printed.contains(&format!("{:?}", key.0))), "{printed}");
    }
}
