use mig::GpuInstanceProfile;
use rstest::rstest;
use serde_json::json;

use super::*;

const SIZE: &str = "Standard_ND96asr_v4";

fn input() -> NodePoolInput {
    NodePoolInput {
        count: Some(1),
        vm_size: Some(SIZE.to_owned()),
        gpu_instance_profile: Some("MIG1g".to_owned()),
        ..NodePoolInput::default()
    }
}

fn with(change: impl FnOnce(&mut NodePoolInput)) -> NodePoolInput {
    let mut input = input();
    change(&mut input);
    input
}

#[test]
fn the_articles_pool_is_taken() {
    let spec = node_pool(&input(), None).unwrap();
    assert_eq!(spec.count, 1);
    assert_eq!(spec.vm_size(), SIZE);
    assert_eq!(spec.gpu_instance_profile, Some(GpuInstanceProfile::Mig1g));
    assert_eq!(spec.mig_strategy, MigStrategy::Single);
    assert_eq!(spec.mode, PoolMode::User);
}

#[test]
fn what_was_not_asked_gets_its_default() {
    let asked_empty = NodePoolInput {
        vm_size: Some(String::new()),
        mode: Some(String::new()),
        ..NodePoolInput::default()
    };
    for input in [NodePoolInput::default(), asked_empty] {
        let spec = node_pool(&input, None).unwrap();
        assert_eq!((spec.count, spec.vm_size()), (1, vm_size::DEFAULT));
        assert_eq!(spec.gpu_instance_profile, None);
    }
}

#[rstest]
#[case(0, "User", true)]
#[case(1000, "User", true)]
#[case(1001, "User", false)]
#[case(-1, "User", false)]
#[case(0, "System", false)]
#[case(1, "System", true)]
#[case(1000, "System", true)]
#[case(i64::MAX, "System", false)]
fn the_count_is_within_the_modes_range(
    #[case] count: i64,
    #[case] mode: &str,
    #[case] valid: bool,
) {
    let input = with(|input| {
        input.count = Some(count);
        input.mode = Some(mode.to_owned());
    });
    assert_eq!(node_pool(&input, None).is_ok(), valid);
}

#[test]
fn a_count_out_of_range_is_refused_in_the_words_of_aks() {
    let input = with(|input| {
        input.count = Some(0);
        input.mode = Some("System".to_owned());
    });
    let error = node_pool(&input, None).unwrap_err();
    assert_eq!(error.code, "InvalidParameter");
    assert_eq!(
        error.message,
        "agentPoolProfile.count was 0. It must be greater or equal to minCount:1 and less than or equal to maxCount:1000."
    );
}

#[test]
fn an_unknown_profile_lists_those_there_are() {
    let error = node_pool(
        &with(|i| i.gpu_instance_profile = Some("MIG5g".to_owned())),
        None,
    )
    .unwrap_err();
    assert_eq!(error.code, "InvalidParameter");
    assert!(error.message.contains("'MIG5g'"), "{error}");
    assert!(
        error.message.contains("MIG1g, MIG2g, MIG3g, MIG4g, MIG7g"),
        "{error}"
    );
}

#[rstest]
#[case("Standard_NC4as_T4_v3", "without MIG")]
#[case("Standard_DS2_v2", "no GPU")]
fn a_profile_needs_a_size_with_mig(#[case] size: &str, #[case] why: &str) {
    for input in [
        with(|input| input.vm_size = Some(size.to_owned())),
        with(|input| {
            input.vm_size = Some(size.to_owned());
            input.gpu_instance_profile = None;
            input.layouts = Some("3g.20gb".to_owned());
        }),
    ] {
        let error = node_pool(&input, None).unwrap_err();
        assert!(error.message.contains(why), "{error}");
        assert!(error.message.contains(SIZE), "{error}");
    }
}

#[test]
fn a_layout_that_does_not_fit_says_what_does() {
    let input = with(|input| {
        input.gpu_instance_profile = None;
        input.layouts = Some("4g.20gb*2".to_owned());
    });
    let error = node_pool(&input, None).unwrap_err();
    assert_eq!(error.target.as_deref(), Some("agentPoolProfile.layouts"));
    assert!(error.message.contains("4g.20gb"), "{error}");
}

#[test]
fn a_layout_for_a_gpu_that_the_size_lacks_is_refused() {
    let input = with(|input| {
        input.gpu_instance_profile = None;
        input.layouts = Some("8=MIG1g".to_owned());
    });
    let error = node_pool(&input, None).unwrap_err();
    assert!(error.message.contains("GPU 8"), "{error}");
}

#[test]
fn profile_and_layouts_exclude_each_other() {
    let error = node_pool(
        &with(|input| input.layouts = Some("MIG2g".to_owned())),
        None,
    )
    .unwrap_err();
    assert!(error.message.contains("exclude each other"), "{error}");
}

#[test]
fn single_refuses_layouts_that_are_not_alike_and_mixed_takes_them() {
    let unlike = |strategy: &str| {
        with(|input| {
            input.gpu_instance_profile = None;
            input.layouts = Some("0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off".to_owned());
            input.mig_strategy = Some(strategy.to_owned());
        })
    };
    assert!(node_pool(&unlike("Single"), None).is_err());
    assert!(node_pool(&unlike("Mixed"), None).is_ok());
}

#[rstest]
#[case(with(|i| i.gpu_instance_profile = Some("MIG2g".to_owned())), "properties.gpuInstanceProfile")]
#[case(with(|i| i.vm_size = Some("Standard_ND96amsr_A100_v4".to_owned())), "properties.vmSize")]
#[case(with(|i| i.mig_strategy = Some("Mixed".to_owned())), "properties.gpuProfile.nvidia.migStrategy")]
#[case(with(|i| { i.gpu_instance_profile = None; i.layouts = Some("MIG1g".to_owned()); }), "properties.layouts")]
#[case(with(|i| i.node_selector = BTreeMap::from([("gpu".to_owned(), "a100".to_owned())])), "properties.nodeSelector")]
fn what_a_pool_is_made_of_cannot_be_changed(#[case] change: NodePoolInput, #[case] target: &str) {
    let existing = node_pool(&input(), None).unwrap();
    let error = node_pool(&change, Some(&existing)).unwrap_err();
    assert_eq!(error.code, "PropertyChangeNotAllowed");
    assert_eq!(error.target.as_deref(), Some(target));
    assert!(
        error
            .message
            .starts_with(&format!("Changing property '{target}' is not allowed."))
    );
}

#[test]
fn values_are_compared_not_presence_and_not_case() {
    let existing = node_pool(&input(), None).unwrap();
    let same = with(|input| {
        input.vm_size = Some("standard_nd96asr_V4".to_owned());
        input.gpu_instance_profile = Some("mig1G".to_owned());
        input.mig_strategy = Some("Single".to_owned());
        input.count = Some(3);
    });
    let nothing = NodePoolInput {
        count: Some(3),
        vm_size: Some(String::new()),
        ..NodePoolInput::default()
    };
    for input in [same, nothing] {
        let spec = node_pool(&input, Some(&existing)).unwrap();
        assert_eq!(
            spec,
            NodePoolSpec {
                count: 3,
                ..existing.clone()
            }
        );
    }
}

#[test]
fn a_profile_cannot_be_put_on_a_pool_that_was_made_without() {
    let existing = node_pool(&with(|i| i.gpu_instance_profile = None), None).unwrap();
    let error = node_pool(&input(), Some(&existing)).unwrap_err();
    assert_eq!(error.code, "PropertyChangeNotAllowed");
}

#[rstest]
#[case("sku=gpu:NoSchedule", true)]
#[case("sku:NoExecute", true)]
#[case("nvidia.com/gpu=present:PreferNoSchedule", true)]
#[case("sku=gpu", false)]
#[case("sku=gpu:Never", false)]
#[case("=gpu:NoSchedule", false)]
#[case("a b=c:NoSchedule", false)]
fn taints_are_those_of_kubernetes(#[case] taint: &str, #[case] valid: bool) {
    let result = node_pool(
        &with(|input| input.node_taints = vec![taint.to_owned()]),
        None,
    );
    assert_eq!(result.is_ok(), valid);
    if let Ok(spec) = result {
        assert_eq!(spec.node_taints[0].to_string(), taint);
    }
}

#[rstest]
#[case("team", "a", true)]
#[case("example.com/team", "", true)]
#[case("example.com/", "a", false)]
#[case("team", "has space", false)]
#[case("-team", "a", false)]
#[case("kubernetes.azure.com/agentpool", "other", false)]
fn labels_are_those_of_kubernetes(#[case] key: &str, #[case] value: &str, #[case] valid: bool) {
    let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(
        node_pool(&with(|input| input.node_labels = labels), None).is_ok(),
        valid
    );
}

#[test]
fn extra_fields_are_kept_as_they_are() {
    let extra = json!({"osDiskSizeGB": 128, "upgradeSettings": {"maxSurge": "10%"}});
    let extra = extra.as_object().unwrap().clone();
    let spec = node_pool(&with(|input| input.extra = extra.clone()), None).unwrap();
    assert_eq!(spec.extra, extra);
}

#[test]
fn layouts_can_be_changed_to_others_that_fit() {
    let layouts = |text: &str| {
        with(|input| {
            input.gpu_instance_profile = None;
            input.layouts = Some(text.to_owned());
        })
    };
    let existing = node_pool(&layouts("MIG1g"), None).unwrap();
    let changed = node_pool(&layouts("MIG3g"), Some(&existing)).unwrap();
    assert_eq!(changed.layouts.unwrap().to_string(), "MIG3g");
    let error = node_pool(&layouts("5g.20gb"), Some(&existing)).unwrap_err();
    assert_eq!(error.target.as_deref(), Some("agentPoolProfile.layouts"));
}

#[test]
fn a_pool_has_a_size_or_chooses_its_nodes_by_their_labels() {
    let selector = BTreeMap::from([("gpu".to_owned(), "a100".to_owned())]);
    let both = with(|input| input.node_selector.clone_from(&selector));
    assert!(
        node_pool(&both, None)
            .unwrap_err()
            .message
            .contains("exclude each other")
    );
    let by_labels = NodePoolInput {
        vm_size: None,
        ..both.clone()
    };
    let spec = node_pool(&by_labels, None).unwrap();
    assert_eq!(spec.machines, crate::Machines::NodeSelector(selector));
    assert_eq!(node_pool(&by_labels, Some(&spec)).unwrap(), spec);
}

fn scaling(enabled: bool, min: i64, max: i64) -> AutoScalingInput {
    AutoScalingInput {
        enabled: Some(enabled),
        min_count: Some(min),
        max_count: Some(max),
    }
}

#[rstest]
#[case(scaling(true, 1, 3), 1, "User", true)]
#[case(scaling(true, 0, 3), 0, "User", true)]
#[case(scaling(true, 0, 3), 1, "System", false)]
#[case(scaling(true, 3, 1), 2, "User", false)]
#[case(scaling(true, 1, 1001), 1, "User", false)]
#[case(scaling(true, 1, 3), 4, "User", false)]
#[case(scaling(true, -1, 3), 1, "User", false)]
#[case(scaling(false, 1, 3), 1, "User", false)]
#[case(scaling(false, 0, 0), 1, "User", true)]
#[case(AutoScalingInput { enabled: Some(true), min_count: Some(1), max_count: None }, 1, "User", false)]
#[case(AutoScalingInput { enabled: None, min_count: Some(1), max_count: Some(2) }, 1, "User", false)]
fn the_autoscalers_bounds_make_sense_with_the_mode_and_the_count(
    #[case] auto_scaling: AutoScalingInput,
    #[case] count: i64,
    #[case] mode: &str,
    #[case] valid: bool,
) {
    let input = with(|input| {
        input.auto_scaling = auto_scaling;
        input.count = Some(count);
        input.mode = Some(mode.to_owned());
    });
    assert_eq!(node_pool(&input, None).is_ok(), valid);
}

#[test]
fn an_autoscaled_pool_is_not_scaled_by_hand_but_stays_within_its_bounds() {
    let scaled = |count, auto_scaling| {
        with(|input| {
            input.count = count;
            input.auto_scaling = auto_scaling;
        })
    };
    let existing = node_pool(&scaled(Some(2), scaling(true, 1, 3)), None).unwrap();
    for given_back in [
        scaled(Some(2), scaling(true, 1, 3)),
        scaled(None, AutoScalingInput::default()),
    ] {
        assert_eq!(node_pool(&given_back, Some(&existing)).unwrap(), existing);
    }
    let error = node_pool(&scaled(Some(3), scaling(true, 1, 3)), Some(&existing)).unwrap_err();
    assert_eq!(error.target.as_deref(), Some("agentPoolProfile.count"));

    let raised = node_pool(&scaled(Some(2), scaling(true, 5, 9)), Some(&existing)).unwrap();
    assert_eq!(raised.count, 5);
    let off = AutoScalingInput {
        enabled: Some(false),
        ..AutoScalingInput::default()
    };
    let by_hand = node_pool(&scaled(Some(7), off), Some(&existing)).unwrap();
    assert_eq!((by_hand.count, by_hand.auto_scaling), (7, None));
}

#[test]
fn a_user_pool_can_be_stopped_and_a_system_pool_cannot() {
    let stopped = |mode: &str| {
        with(|input| {
            input.power = Some("stopped".to_owned());
            input.mode = Some(mode.to_owned());
        })
    };
    let spec = node_pool(&stopped("User"), None).unwrap();
    assert_eq!((spec.power, spec.count), (PowerState::Stopped, 1));
    assert_eq!(node_pool(&input(), Some(&spec)).unwrap(), spec);
    let error = node_pool(&stopped("System"), None).unwrap_err();
    assert_eq!(error.target.as_deref(), Some("agentPoolProfile.powerState"));
    assert!(node_pool(&with(|input| input.power = Some("Paused".to_owned())), None).is_err());
}

fn profiles(strategy: &str, profiles: &[&str]) -> NodePoolInput {
    with(|input| {
        input.gpu_instance_profile = None;
        input.mig_strategy = Some(strategy.to_owned());
        input.mig_profiles = profiles.iter().map(|text| (*text).to_owned()).collect();
    })
}

#[rstest]
#[case("Single", &["MIG1g"], "MIG1g")]
#[case("Mixed", &["MIG3g", "MIG2g", "MIG1g", "mig1g"], "3g.20gb,2g.10gb,1g.5gb*2")]
#[case("Mixed", &["MIG1g"], "1g.5gb*1")]
fn a_list_of_profiles_is_a_layout_of_every_gpu(
    #[case] strategy: &str,
    #[case] list: &[&str],
    #[case] layouts: &str,
) {
    let spec = node_pool(&profiles(strategy, list), None).unwrap();
    assert_eq!(spec.layouts.as_ref().unwrap().to_string(), layouts);
    assert_eq!(spec.mig_profiles.len(), list.len());
    let given_back = NodePoolInput {
        layouts: Some(layouts.to_owned()),
        ..profiles(strategy, list)
    };
    assert_eq!(node_pool(&given_back, Some(&spec)).unwrap(), spec);
}

#[rstest]
#[case(profiles("None", &["MIG1g"]), "needs migStrategy")]
#[case(profiles("Single", &["MIG1g", "MIG1g"]), "exactly one profile")]
#[case(profiles("Mixed", &["MIG4g", "MIG4g"]), "4g.20gb")]
#[case(profiles("Mixed", &["1g.5gb"]), "Use one of MIG1g")]
#[case(NodePoolInput { gpu_instance_profile: Some("MIG1g".into()), ..profiles("Single", &["MIG1g"]) }, "exclude each other")]
#[case(NodePoolInput { layouts: Some("MIG2g".into()), ..profiles("Single", &["MIG1g"]) }, "exclude each other")]
#[case(NodePoolInput { vm_size: Some("Standard_D4s_v5".into()), ..profiles("Single", &["MIG1g"]) }, "Standard_D4s_v5")]
#[case(NodePoolInput { vm_size: None, node_selector: BTreeMap::from([("gpu".into(), "a100".into())]), ..profiles("Mixed", &["MIG1g"]) }, "Use layouts")]
fn a_list_of_profiles_that_means_nothing_is_refused(
    #[case] input: NodePoolInput,
    #[case] why: &str,
) {
    let error = node_pool(&input, None).unwrap_err();
    assert!(error.message.contains(why), "{error}");
}

#[test]
fn a_list_of_profiles_can_be_changed_and_gives_way_to_layouts() {
    let spec = node_pool(&profiles("Mixed", &["MIG3g"]), None).unwrap();
    let changed = NodePoolInput {
        layouts: Some("3g.20gb*1".to_owned()),
        ..profiles("Mixed", &["MIG3g", "MIG3g"])
    };
    let spec = node_pool(&changed, Some(&spec)).unwrap();
    assert_eq!(spec.layouts.as_ref().unwrap().to_string(), "3g.20gb*2");
    let layouts = with(|input| {
        input.gpu_instance_profile = None;
        input.layouts = Some("2g.10gb,1g.5gb".to_owned());
    });
    let spec = node_pool(&layouts, Some(&spec)).unwrap();
    assert_eq!(spec.layouts.unwrap().to_string(), "2g.10gb,1g.5gb");
    assert!(spec.mig_profiles.is_empty());
}
