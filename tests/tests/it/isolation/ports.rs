//! Which operations of the admin API the data port has: none unless `admin.on_data_port` says so, and then a tenant's own
//! only. What is not there is told like any path that never was.

use super::callers::{Caller, Credential, Port};
use super::suite::{Ask, Suite};
use super::table::{Api, For};
use caprock_tests::stack::StackSpec;

/// On a gateway with, or without, a tenant's operations on its data port.
pub(super) async fn the_data_port_has(tenants_operations: bool) {
    let mut spec = StackSpec::sim(&[]);
    spec.gateway = format!("[admin]\non_data_port = {tenants_operations}\n");
    let suite = Suite::start(spec).await;
    let nobody = Caller { name: "nobody".into(), credential: Credential::None, known: None };
    let owner = Caller::bearer("A's owner", "tenant_owner", &suite.a.owner.secret);
    let operator = Caller::bearer("an operator", "platform_admin", suite.stack.gateway.admin_token());
    let (mut there, mut missing) = (0, 0);
    for (row, operation) in suite.operations() {
        if row.api != Api::Admin || row.permission.is_none() {
            continue;
        }
        let is_there = tenants_operations && row.caller == For::Tenant;
        *(if is_there { &mut there } else { &mut missing }) += 1;
        let mut ask = Ask::of(&row, &operation, &suite.a.things, "isolation-never-made");
        ask.asked = vec![ask.path.clone()];
        let mut never = ask.clone();
        never.path = "/admin/v1/nothing-of-the-kind".into();
        never.asked = vec![never.path.clone()];
        for caller in [&nobody, &owner, &operator] {
            let mut reply = suite.send(caller, Port::Data, &ask).await;
            if tenants_operations {
                // Names the methods that the path does have: those of a tenant.
                reply.headers.remove("allow");
            }
            let unknown = suite.send(caller, Port::Data, &never).await;
            if unknown.status != 404 {
                suite.note(format!("a path that never was, as {}: {}", caller.name, unknown.in_short()));
            }
            if (reply == unknown) == is_there {
                let (id, name) = (row.id, &caller.name);
                suite.note(format!("{id} as {name}, to be there: {is_there}:\n  {reply:?}\n  {unknown:?}"));
            }
        }
    }
    assert!(missing > 20 && (there > 20) == tenants_operations, "{there} there, {missing} missing");
    suite.ends("the data port");
    suite.passes();
}
