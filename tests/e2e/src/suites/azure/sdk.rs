//! The Python SDK.

use anyhow::ensure;

use crate::azure::{Place, Up};
use crate::machine::Machine;
use crate::suite::{Alone, Outcome, Test};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "the_sdks_example_runs_unchanged",
        run: example,
    },
    Alone {
        name: "pollers_etags_pages_and_errors_are_as_the_sdk_expects",
        run: |machine| promises(&Place::on(machine, "sdk-promises")?),
    },
];

pub(super) const TESTS: &[Test] = &[Test {
    name: "pollers_etags_pages_and_errors_of_a_cluster_are_as_the_sdk_expects",
    run: |world| promises(&Place::in_cluster(world)?),
}];

fn example(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "sdk")?;
    let shell = up.shell()?;
    let printed = shell.python("examples/azure/sdk.py", &[])?;
    let wanted = "group myResourceGroup: Succeeded
cluster myAKSCluster: Succeeded
pool mignode: InProgress
pool mignode: Succeeded, 1 x Standard_ND96asr_v4, MIG1g
pool mignode: labels {'team': 'vision'}
pools: mignode, nodepool1
";
    ensure!(printed == wanted, "it printed {printed}");
    Ok(())
}

fn promises(place: &Place<'_>) -> Outcome {
    let shell = place.with_cluster()?;
    shell.python("tests/e2e/azure/promises.py", &[])?;
    Ok(())
}
