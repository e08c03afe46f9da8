//! A pool that is asked for again and again: its answer is remembered, and nobody can tell.

use std::sync::Arc;

use axum::http::Method;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::common::{Answer, Api, VERSION, agent_pool, cluster, the_articles_pool};

/// What may happen between two questions.
#[derive(Clone, Copy, Debug)]
enum Step {
    Nothing,
    Put,
    Scale(u32),
    Delete,
    Tag(u32),
    StopTheCluster,
    StartTheCluster,
    Round,
    NodesGetReady,
    AnotherPool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        select(vec![
            Step::Nothing,
            Step::Put,
            Step::Delete,
            Step::StopTheCluster,
            Step::StartTheCluster,
            Step::Round,
            Step::Round,
            Step::NodesGetReady,
            Step::AnotherPool,
        ]),
        (0..3u32).prop_map(Step::Scale),
        (0..3u32).prop_map(Step::Tag),
    ];
    prop::collection::vec(step, 1..24)
}

async fn take(api: &Api, step: Step) {
    let mut pool = the_articles_pool();
    let post = async |what: &str| {
        let url = format!("{}/{what}?api-version={VERSION}", cluster());
        api.send(Method::POST, &url, &[], "").await
    };
    match step {
        Step::Nothing => {}
        Step::Put => {
            api.put(&agent_pool("mignode"), VERSION, &pool).await;
        }
        Step::Scale(count) => {
            pool["properties"]["count"] = json!(count);
            api.put(&agent_pool("mignode"), VERSION, &pool).await;
        }
        Step::Tag(number) => {
            pool["properties"]["tags"] = json!({ "number": number.to_string() });
            api.put(&agent_pool("mignode"), VERSION, &pool).await;
        }
        Step::Delete => {
            api.delete(&agent_pool("mignode"), VERSION).await;
        }
        Step::StopTheCluster => {
            post("stop").await;
        }
        Step::StartTheCluster => {
            post("start").await;
        }
        Step::Round => api.settle().await,
        Step::NodesGetReady => api.backend.advance_all(),
        Step::AnotherPool => {
            api.put(&agent_pool("another"), VERSION, &pool).await;
        }
    }
}

/// All of an answer but what is each request's own.
fn told(answer: &Answer) -> (u16, String, Vec<(String, String)>) {
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| !name.as_str().ends_with("request-id"))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    (answer.status.as_u16(), answer.text.clone(), headers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whoever_asks_again_is_told_what_one_who_asks_for_the_first_time_is_told(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let api = Api::with_cluster().await;
            api.backend.hold_nodes();
            for step in steps {
                take(&api, step).await;
                let first = Api::over(Arc::clone(&api.backend));
                let first = told(&first.get(&agent_pool("mignode"), VERSION).await);
                for path in [agent_pool("mignode"), agent_pool("mignode"), agent_pool("MigNode")] {
                    let again = told(&api.get(&path, VERSION).await);
                    // A name that is not there is told as it was asked for.
                    if again.0 == 200 || path == agent_pool("mignode") {
                        prop_assert_eq!(&again, &first, "{} after {:?}", path, step);
                    }
                }
            }
            Ok(())
        })?;
    }
}
