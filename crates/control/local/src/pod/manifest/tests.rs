use super::*;
use proptest::prelude::*;

const ARTICLE: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: nvidia-single
spec:
  containers:
  - name: nvidia-single
    image: nvidia/cuda:12.1.1-base-ubuntu22.04
    command: ["/bin/sh"]
    args: ["-c","sleep 1000"]
    resources:
      limits:
        "nvidia.com/gpu": 1
"#;

fn refusal(text: &str) -> String {
    parse(text).expect_err("refused").to_string()
}

#[test]
fn the_articles_manifest_is_taken_as_written() {
    let manifest = parse(ARTICLE).expect("good");
    assert_eq!(
        manifest.requests(),
        BTreeMap::from([("nvidia.com/gpu".to_owned(), 1)])
    );
    assert_eq!(manifest.metadata.namespace, "default");
    assert_eq!(manifest.spec.restart_policy, RestartPolicy::Always);
    let as_json = serde_json::to_string(&manifest).expect("json");
    assert_eq!(parse(&as_json).expect("JSON is YAML"), manifest);
}

#[test]
fn broken_yaml_is_refused_with_line_and_column() {
    let error = refusal("apiVersion: v1\nkind: Pod\nmetadata: {name: a\nspec: [\n");
    assert!(
        error.contains("line ") && error.contains("column "),
        "{error}"
    );
}

#[test]
fn an_unknown_field_is_refused_by_its_path() {
    let error = refusal(&ARTICLE.replace("    image:", "    livenessProbe: {}\n    image:"));
    assert!(
        error.contains("spec.containers[0].livenessProbe"),
        "{error}"
    );
    assert!(error.contains("cannot honour"), "{error}");
    let error = refusal(&ARTICLE.replace("spec:", "spec:\n  hostNetwork: true"));
    assert!(error.contains("spec.hostNetwork"), "{error}");
}

#[test]
fn a_container_without_a_command_is_refused_because_no_image_is_pulled() {
    let error = refusal(&ARTICLE.replace("command: [\"/bin/sh\"]", "command: []"));
    assert!(
        error.contains("spec.containers[0].command: is missing"),
        "{error}"
    );
    assert!(error.contains("do not pull images"), "{error}");
}

#[test]
fn what_a_process_cannot_be_held_to_is_refused() {
    let error = refusal(&ARTICLE.replace("\"nvidia.com/gpu\": 1", "memory: 1Gi"));
    assert!(
        error.contains("spec.containers[0].resources.limits[memory]"),
        "{error}"
    );
    let error = refusal(&ARTICLE.replace("\"nvidia.com/gpu\": 1", "nvidia.com/gpu: 500m"));
    assert!(error.contains("not a whole number of devices"), "{error}");
    let error = refusal(&ARTICLE.replace("limits:", "requests:"));
    assert!(error.contains("must be set in limits too"), "{error}");
    let both = ARTICLE.to_owned() + "      requests:\n        \"nvidia.com/gpu\": 2\n";
    assert!(
        refusal(&both).contains("must be equal to requests"),
        "{}",
        refusal(&both)
    );
    let error = refusal(&ARTICLE.replace("\"nvidia.com/gpu\": 1", "nvidia.com/gpu: lots"));
    assert!(error.contains("lots"), "{error}");
}

#[test]
fn other_kinds_and_bad_names_are_refused() {
    assert!(refusal(&ARTICLE.replace("kind: Pod", "kind: Service")).contains("v1 Pod alone"));
    let error = refusal(&ARTICLE.replace("name: nvidia-single\nspec", "name: Big_Name\nspec"));
    assert!(error.contains("metadata.name"), "{error}");
    assert_eq!(refusal(""), ManifestError::Documents(0).to_string());
}

#[test]
fn a_file_may_hold_several_pods() {
    let two = format!("{ARTICLE}---{}", ARTICLE.replace("nvidia-single", "other"));
    let names: Vec<String> = parse_all(&two)
        .expect("good")
        .into_iter()
        .map(|m| m.metadata.name)
        .collect();
    assert_eq!(names, ["nvidia-single", "other"]);
    assert_eq!(refusal(&two), ManifestError::Documents(2).to_string());
}

#[test]
fn variables_expand_from_what_came_before_and_doubled_dollars_escape() {
    let mut container = parse(ARTICLE).expect("good").spec.containers.remove(0);
    container.args = vec!["$(B) $(NONE) $$(B) $ $(".to_owned()];
    container.env = vec![
        EnvVar {
            name: "A".to_owned(),
            value: "$(GIVEN)!".to_owned(),
        },
        EnvVar {
            name: "B".to_owned(),
            value: "<$(A)>".to_owned(),
        },
    ];
    let given = BTreeMap::from([("GIVEN".to_owned(), "g".to_owned())]);
    let (command, environment) = container.expanded(&given);
    assert_eq!(command, ["/bin/sh", "<g!> $(NONE) $(B) $ $("]);
    assert_eq!(environment["B"], "<g!>");
}

#[test]
fn quantities_read_as_kubernetes_does() {
    let millis = |text: &str| {
        text.parse::<Quantity>()
            .ok()
            .and_then(|quantity| quantity.millis())
    };
    assert_eq!(millis("1"), Some(1000));
    assert_eq!(millis("500m"), Some(500));
    assert_eq!(millis("1.5"), Some(1500));
    assert_eq!(millis("2Gi"), Some(2 * 1024 * 1024 * 1024 * 1000));
    assert_eq!(millis("0.1m"), Some(1));
    assert_eq!(millis("-1"), None);
    assert_eq!(millis("1.2.3"), None);
    assert_eq!(millis("Gi"), None);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*") {
        let _ = parse_all(&text);
    }

    #[test]
    fn expansion_without_dollars_changes_nothing(text in "[^$]*") {
        prop_assert_eq!(expand(&text, &BTreeMap::new()), text);
    }
}
