//! Compute instance profiles whose id is not the usual one.
#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on fails, and says where"
)]

use migpool_partition::{Options, Partitioner};
use nvml::Nvml;

#[test]
fn a_double_memory_slice_is_made_whatever_its_compute_profile_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    nvml_sim::DriverRoot::create(&root, &[(mig::board("A100-40GB").unwrap(), 1)]).unwrap();
    let partitioner = Partitioner::new(Nvml::load(&root).unwrap(), folder.path().join("state"));
    let layout = "1g.10gb*2,2g.10gb".parse().unwrap();
    let report = partitioner.apply(&layout, Options::default(), &[]).unwrap();
    assert!(report.is_done(), "{report}");
    let again = partitioner.apply(&layout, Options::default(), &[]).unwrap();
    assert!(again.calls.is_empty(), "{again}");
}
