use rstest::rstest;
use serde_json::{Map, Value, json};

use super::super::function::{Resources, Scope, Surroundings};
use super::super::names::Names;
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
    let surroundings = Surroundings {
        subscription: String::new(),
        subscription_object: Value::Null,
        group: String::new(),
        group_object: Value::Null,
        deployment_object: Value::Null,
    };
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
