use rstest::rstest;
use serde_json::{Map, Value, json};

use super::super::names::Names;
use super::super::scope::{Resources, Scope, Surroundings};
use super::*;

fn with<T>(resources: Resources<'_>, look: impl FnOnce(&Scope<'_>) -> T) -> T {
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    let parameters: Map<String, Value> = object(json!({
        "clusterName": "myAKSCluster", "count": 3, "zones": ["1", "2"], "gpu": true, "it's": 1,
    }));
    let variables = object(json!({"tags": {"team": {"name": "a"}}}));
    let surroundings = Surroundings {
        subscription: "s".to_owned(),
        subscription_object: json!({"subscriptionId": "s"}),
        group: "g".to_owned(),
        group_object: json!({"name": "g", "location": "southcentralus"}),
        deployment_object: json!({"name": "d"}),
    };
    look(&Scope::new(
        Names::new("parameter", None, parameters),
        Names::new("variable", None, variables),
        &surroundings,
        resources,
    ))
}

fn surroundings() -> Surroundings {
    Surroundings {
        subscription: String::new(),
        subscription_object: Value::Null,
        group: String::new(),
        group_object: Value::Null,
        deployment_object: Value::Null,
    }
}

fn evaluated(text: &str) -> Result<Value, ExpressionError> {
    with(Resources::None, |scope| evaluate_text(text, scope))
}

#[rstest]
#[case("plain", json!("plain"))]
#[case("[[not one]", json!("[not one]"))]
#[case("[ parameters('CLUSTERNAME') ]", json!("myAKSCluster"))]
#[case("[parameters('it''s')]", json!(1))]
#[case("[parameters('zones')[1]]", json!("2"))]
#[case("[variables('tags').team.name]", json!("a"))]
#[case("[variables('tags')['team']]", json!({"name": "a"}))]
#[case("[format('{0}/{1}-{{{2}}}', parameters('clusterName'), 'gpu', parameters('count'))]", json!("myAKSCluster/gpu-{3}"))]
#[case("[concat('a', 1, 'b')]", json!("a1b"))]
#[case("[concat(parameters('zones'), createArray('3'))]", json!(["1", "2", "3"]))]
#[case("[resourceGroup().location]", json!("southcentralus"))]
#[case("[resourceId('Microsoft.ContainerService/managedClusters/agentPools', 'c', 'p')]", json!("/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c/agentPools/p"))]
#[case("[resourceId('other', 'Microsoft.ContainerService/managedClusters', 'c')]", json!("/subscriptions/s/resourceGroups/other/providers/Microsoft.ContainerService/managedClusters/c"))]
#[case("[if(equals(parameters('count'), 3), toUpper('yes'), parameters('missing'))]", json!("YES"))]
#[case("[and(parameters('gpu'), not(empty(parameters('zones'))))]", json!(true))]
#[case("[union(variables('tags'), createObject('b', int('-2')))]", json!({"team": {"name": "a"}, "b": -2}))]
#[case("[coalesce(null(), string(false()))]", json!("False"))]
fn expressions_have_the_values_that_azure_gives_them(#[case] text: &str, #[case] value: Value) {
    assert_eq!(evaluated(text), Ok(value));
}

#[rstest]
#[case("[uniqueString('a')]", "the function 'uniqueString' can't be had here")]
#[case("[parameters('missing')]", "there is no parameter 'missing'")]
#[case("[parameters()]", "does not take these arguments")]
#[case(
    "[variables('tags').none]",
    "there is no property 'none'; there are 'team'"
)]
#[case("[parameters('zones')[7]]", "there is no item 7")]
#[case("[format('{1}', 'a')]", "no value for '{1}'")]
#[case("[concat('a'", "")]
#[case("[concat('a']", "',' is missing at its end")]
#[case("[concat('a)]", "a quote is missing")]
#[case("[concat('a') 'b']", "is not expected at its end")]
#[case("[-]", "'-' is no whole number")]
#[case("[]", "it ends too early")]
#[case("[resourceId('a/b/c', 'd')]", "has 2 names, and 1 are given")]
#[case("[reference('x').fqdn]", "in outputs alone")]
fn others_are_refused_with_their_own_text(#[case] text: &str, #[case] reason: &str) {
    match evaluated(text) {
        // Without its bracket at the end it is only text.
        Ok(value) => assert_eq!((value, reason), (json!(text), "")),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(text) && error.contains(reason), "{error}");
        }
    }
}

#[test]
fn nothing_is_nested_or_doubled_without_end() {
    let nested = format!("[{}'a'{}]", "concat(".repeat(1000), ")".repeat(1000));
    assert!(
        evaluated(&nested)
            .unwrap_err()
            .to_string()
            .contains("deeper")
    );
    let long = "x".repeat(1 << 20);
    let parameters = Map::from_iter([("a".to_owned(), Value::from(long))]);
    let surroundings = surroundings();
    let variables = Names::new("variable", None, Map::new());
    let scope = Scope::new(
        Names::new("parameter", None, parameters),
        variables,
        &surroundings,
        Resources::None,
    );
    let a = "parameters('a')";
    let error = evaluate_text(&format!("[concat({a}, {a}, {a}, {a}, {a})]"), &scope);
    assert!(error.unwrap_err().to_string().contains("larger than"));
}

/// With half of the stack that a worker of the server has: what asks is on it too.
fn on_half_a_stack<T: Send>(look: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(1024 * 1024);
        let thread = builder.spawn_scoped(scope, look).unwrap();
        thread.join().unwrap()
    })
}

#[rstest]
#[case(format!("['a'{}]", ".a".repeat(1_000_000)))]
#[case(format!("['a'{}]", "[0]".repeat(1_000_000)))]
#[case(format!("[a({}1]", "a()[".repeat(1_000_000)))]
#[case(format!("[{}]", "concat(".repeat(500_000)))]
fn no_chain_is_too_long_for_the_stack(#[case] text: String) {
    let error = on_half_a_stack(|| evaluated(&text)).unwrap_err();
    let error = error.to_string();
    let (_, reason) = error.rsplit_once("': ").unwrap();
    assert!(
        reason.contains("more than 64") || reason.contains("deeper than 64"),
        "{reason}"
    );
}

#[test]
fn as_many_properties_may_follow_one_another_as_a_value_has_levels() {
    let value = (0..64).fold(json!("x"), |value, _| json!({ "a": value }));
    let text = format!("[variables('v'){}]", ".a".repeat(64));
    let surroundings = surroundings();
    let scope = Scope::new(
        Names::new("parameter", None, Map::new()),
        Names::new("variable", None, Map::from_iter([("v".to_owned(), value)])),
        &surroundings,
        Resources::None,
    );
    assert_eq!(evaluate_text(&text, &scope), Ok(json!("x")));
    let longer = format!("[variables('v'){}]", ".a".repeat(65));
    let error = evaluate_text(&longer, &scope).unwrap_err().to_string();
    assert!(error.contains("more than 64 properties"), "{error}");
}

/// The values of variables, each of which is made of the one before by `of`.
fn chained(
    count: usize,
    of: impl Fn(&str) -> Value,
) -> Result<Map<String, Value>, ExpressionError> {
    let name = |place: usize| format!("v{place:02}");
    let mut written = Map::from_iter([(name(0), json!("x"))]);
    for place in 1..count {
        let before = format!("variables('{}')", name(place - 1));
        written.insert(name(place), of(&before));
    }
    on_half_a_stack(|| {
        let surroundings = surroundings();
        let scope = Scope::new(
            Names::new("parameter", None, Map::new()),
            Names::new("variable", Some(&written), Map::new()),
            &surroundings,
            Resources::None,
        );
        // The last one first: it has to make all the others.
        scope.variables.get(&name(count - 1), &scope)?;
        scope.variables.all(&scope)
    })
}

#[test]
fn variables_that_are_made_of_one_another_have_one_depth_together() {
    let chain = chained(32, |before| json!([format!("[empty({before})]")]));
    assert_eq!(chain.unwrap().len(), 32);
    let arrays =
        |before: &str| (0..500).fold(json!(format!("[{before}]")), |value, _| json!([value]));
    let error = chained(32, arrays).unwrap_err().to_string();
    assert!(error.contains("deeper than 128"), "{error}");
    let calls = |before: &str| {
        let (open, close) = ("createArray(".repeat(60), ")".repeat(60));
        json!(format!("[{open}{before}{close}]"))
    };
    let error = chained(32, calls).unwrap_err().to_string();
    assert!(error.contains("deeper than"), "{error}");
}

#[test]
fn values_that_are_there_make_no_deeper_ones_than_there_may_be() {
    // One after the other: none is made while another is.
    let made = |of: fn(&str) -> Value| {
        let mut values = Map::from_iter([("v".to_owned(), json!([]))]);
        on_half_a_stack(|| {
            for round in 0..2000 {
                let surroundings = surroundings();
                let written = Map::from_iter([("w".to_owned(), of("variables('v')"))]);
                let scope = Scope::new(
                    Names::new("parameter", None, Map::new()),
                    Names::new("variable", Some(&written), values.clone()),
                    &surroundings,
                    Resources::None,
                );
                match scope.variables.get("w", &scope) {
                    Ok(value) => values.insert("v".to_owned(), value),
                    Err(error) => return (round, error.to_string()),
                };
            }
            (2000, String::new())
        })
    };
    for (round, error) in [
        made(|before| json!(format!("[createArray({before})]"))),
        made(|before| json!([format!("[{before}]")])),
    ] {
        assert_eq!(round, 63);
        assert!(error.contains("deeper than 64 levels"), "{error}");
    }
}

#[test]
fn outputs_refer_to_resources_once_they_are_there() {
    let text = "[reference(resourceId('A.B/c', 'd'), '2024-01-01').fqdn]";
    let id = "/subscriptions/s/resourceGroups/g/providers/A.B/c/d".to_owned();
    let ids = [id.to_lowercase()];
    let later = with(Resources::Later(&ids), |scope| evaluate_text(text, scope));
    assert_eq!(later, Err(ExpressionError::Later));
    let none = with(Resources::Later(&[]), |scope| evaluate_text(text, scope));
    assert!(
        none.unwrap_err()
            .to_string()
            .contains("no resource of the template")
    );
    let bodies = [(id, json!({"name": "d", "properties": {"fqdn": "x"}}))];
    let there = with(Resources::There(&bodies), |scope| {
        evaluate_text(text, scope)
    });
    assert_eq!(there, Ok(json!("x")));
    let full = text.replace("'2024-01-01').fqdn", "'2024-01-01', 'full').name");
    let there = with(Resources::There(&bodies), |scope| {
        evaluate_text(&full, scope)
    });
    assert_eq!(there, Ok(json!("d")));
}
