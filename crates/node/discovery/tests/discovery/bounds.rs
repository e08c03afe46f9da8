//! Whatever a driver, a board's maker or the firmware writes: one label that Kubernetes refuses would cost all of them.

use discovery::{labels, to_text};
use mig::{Attribute, MigProfile, MigStrategy, Profile};
use nvml::{Inventory, MigDevice};
use proptest::prelude::*;

use crate::node::{node, options};

/// What the API server takes for the name in a label's key and for its value.
fn is_word(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = [text.chars().next(), text.chars().last()];
    text.len() <= 63
        && text.chars().all(is_inner)
        && ends.iter().flatten().all(char::is_ascii_alphanumeric)
}

fn attributes() -> impl Strategy<Value = Attribute> {
    prop::sample::select(vec![
        Attribute::None,
        Attribute::Me,
        Attribute::NoMe,
        Attribute::Gfx,
        Attribute::MeAll,
    ])
}

/// Any profile, of any size that a name has room for.
fn profiles() -> impl Strategy<Value = MigProfile> {
    (any::<u8>(), any::<u8>(), any::<u16>(), attributes()).prop_map(
        |(compute, slices, memory, attribute)| {
            let profile = Profile::new(slices, memory, attribute);
            MigProfile::new(compute, profile).unwrap_or(MigProfile::whole(profile))
        },
    )
}

fn devices(inventory: &mut Inventory) -> impl Iterator<Item = &mut MigDevice> {
    inventory
        .gpus
        .iter_mut()
        .flat_map(|gpu| &mut gpu.instances)
        .flat_map(|instance| &mut instance.compute_instances)
        .filter_map(|compute| compute.device.as_mut())
}

#[test]
fn every_label_of_every_node_is_one_that_kubernetes_takes() {
    let known = node(&[("A100-40GB", 2)], "0=1g.5gb+me,1c.3g.20gb*3;1=MIG3g");
    let texts = || {
        prop_oneof![
            any::<String>(),
            "[ -~]{0,200}",
            "\\PC{0,80}",
            "[-_. +]{0,70}"
        ]
    };
    let profiles = prop::collection::vec(profiles(), 6);
    let strategies = prop::sample::select(vec![
        MigStrategy::None,
        MigStrategy::Single,
        MigStrategy::Mixed,
    ]);
    let any_node = (texts(), texts(), texts(), profiles, strategies);
    proptest!(|((product, machine, driver, profiles, strategy) in any_node)| {
        let mut inventory = known.clone();
        inventory.gpus[0].name = product;
        inventory.driver_version = driver;
        for (device, profile) in devices(&mut inventory).zip(profiles.iter().cycle()) {
            device.profile = *profile;
        }
        let mut options = options(strategy);
        options.machine_type = machine;
        let labels = labels(&inventory, &options);
        for (key, value) in &labels {
            let name = key.strip_prefix("nvidia.com/").unwrap();
            prop_assert!(!name.is_empty() && is_word(name), "{key:?}");
            prop_assert!(is_word(value), "{key}={value:?}");
        }
        // In the file that node feature discovery reads, no value breaks out of its line.
        prop_assert_eq!(to_text(&labels).lines().count(), labels.len());
    });
}
