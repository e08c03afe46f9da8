//! Answers that are given again for as long as nothing has changed.
//!
//! Whoever waits for a node pool asks for it every few seconds, and to read its record and write it down again takes longer than
//! all the rest of the request. An answer is made from records alone, so it holds until the next commit: not only a change of the
//! pool itself, any change forgets all answers. That is easy to be sure of, and those who ask again and again ask in between.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::http::Response;

use pool::PoolKey;

/// An answer, all of it.
pub(crate) type Answer = Response<Bytes>;

/// How many answers are remembered: most have 1 to 2 KiB, and all of them at most 2 MiB.
const MOST: usize = 256;
/// The longest that is remembered, in bytes: what a client has kept in a pool may be long.
const LONGEST: usize = 8 * 1024;

/// The answers to GETs of node pools.
#[derive(Debug, Default)]
pub(crate) struct AnswerCache(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// The store's, before the records were read that the answers are made from.
    generation: u64,
    answers: HashMap<PoolKey, Answer>,
}

impl AnswerCache {
    /// The answer that was made in this generation of the store, if it is remembered.
    pub(crate) fn get(&self, generation: u64, key: &PoolKey) -> Option<Answer> {
        let remembered = self.lock();
        let answers = (remembered.generation == generation).then_some(&remembered.answers);
        answers?.get(key).cloned()
    }

    /// Remembers an answer that was made from what was read in this generation, or after it.
    pub(crate) fn put(&self, generation: u64, key: PoolKey, answer: Answer) {
        if answer.body().len() > LONGEST {
            return;
        }
        let mut remembered = self.lock();
        if remembered.generation != generation || remembered.answers.len() >= MOST {
            remembered.answers.clear();
            remembered.generation = generation;
        }
        remembered.answers.insert(key, answer);
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pool: &str) -> PoolKey {
        serde_json::from_value(serde_json::json!({
            "subscription": "00000000-0000-0000-0000-000000000000", "group": "g", "cluster": "c", "pool": pool,
        }))
        .unwrap()
    }

    fn answer(text: &'static str) -> Answer {
        Answer::new(Bytes::from(text))
    }

    fn got(cache: &AnswerCache, generation: u64, pool: &str) -> Option<Bytes> {
        let answer = cache.get(generation, &key(pool));
        answer.map(Answer::into_body)
    }

    #[test]
    fn an_answer_is_given_again_in_its_own_generation_alone() {
        let cache = AnswerCache::default();
        assert_eq!(got(&cache, 0, "a"), None);
        cache.put(1, key("a"), answer("first"));
        assert_eq!(got(&cache, 1, "a"), Some(Bytes::from("first")));
        assert_eq!(got(&cache, 1, "b"), None);
        assert_eq!(got(&cache, 2, "a"), None);
        cache.put(2, key("b"), answer("second"));
        assert_eq!(got(&cache, 2, "a"), None, "it may have changed since");
        // One who was slow brings back what was, and nobody takes it for what is.
        cache.put(1, key("a"), answer("late"));
        assert_eq!(got(&cache, 2, "a"), None);
        assert_eq!(got(&cache, 2, "b"), None);
    }

    #[test]
    fn no_more_is_remembered_than_is_set() {
        let cache = AnswerCache::default();
        for number in 0..3 * MOST {
            let key = key(&format!("p{number}"));
            cache.put(1, key.clone(), answer("it"));
            assert!(cache.get(1, &key).is_some());
            assert!(cache.lock().answers.len() <= MOST);
        }
        let long = Answer::new(Bytes::from(vec![b' '; LONGEST + 1]));
        cache.put(1, key("long"), long);
        assert_eq!(got(&cache, 1, "long"), None);
    }
}
