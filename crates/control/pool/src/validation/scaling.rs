//! How many nodes: the count, and the bounds of the cluster autoscaler.

use super::AutoScalingInput;
use crate::Invalid;
use crate::resource::{AutoScaling, NodePoolSpec, PoolMode};

/// The bounds that are to hold, if any.
pub(super) fn bounds(
    input: &AutoScalingInput,
    mode: PoolMode,
    existing: Option<&NodePoolSpec>,
    most: u32,
) -> Result<Option<AutoScaling>, Invalid> {
    let before = existing.and_then(|spec| spec.auto_scaling);
    if !input.enabled.unwrap_or(before.is_some()) {
        // Clients that always send both send zeros then.
        let is_asked = |count: Option<i64>| count.is_some_and(|count| count != 0);
        if is_asked(input.min_count) || is_asked(input.max_count) {
            return Err(Invalid::parameter(
                "agentPoolProfile.enableAutoScaling",
                "The parameters minCount and maxCount are for a node pool with enableAutoScaling. Set it, or leave them away.",
            ));
        }
        return Ok(None);
    }
    let min = input.min_count.or(before.map(|it| it.min_count.into()));
    let max = input.max_count.or(before.map(|it| it.max_count.into()));
    let (Some(min), Some(max)) = (min, max) else {
        return Err(Invalid::parameter(
            "agentPoolProfile.enableAutoScaling",
            "A node pool with enableAutoScaling needs both minCount and maxCount.",
        ));
    };
    let least = mode.min_count();
    let within = |count: i64| {
        u32::try_from(count)
            .ok()
            .filter(|count| (least..=most).contains(count))
    };
    match (within(min), within(max)) {
        (Some(min_count), Some(max_count)) if min_count <= max_count => Ok(Some(AutoScaling {
            min_count,
            max_count,
        })),
        _ => Err(Invalid::parameter(
            "agentPoolProfile.minCount",
            format!(
                "The values minCount:{min} and maxCount:{max} are invalid. Use a minCount of at least {least} and a maxCount that is not less than minCount and at most {most}."
            ),
        )),
    }
}

/// The number of nodes.
pub(super) fn count(
    asked: Option<i64>,
    bounds: Option<AutoScaling>,
    mode: PoolMode,
    existing: Option<&NodePoolSpec>,
    most: u32,
) -> Result<u32, Invalid> {
    let least = mode.min_count();
    let (min, max) = bounds.map_or((least, most), |it| (it.min_count, it.max_count));
    if let Some(spec) = existing
        && bounds.is_some()
    {
        let is_same = asked.is_none_or(|count| count == i64::from(spec.count));
        if is_same {
            return Ok(spec.count.clamp(min, max));
        }
        if spec.auto_scaling.is_some() {
            return Err(Invalid::parameter(
                "agentPoolProfile.count",
                format!(
                    "Cannot scale cluster autoscaler enabled node pool. It has {} nodes; change minCount and maxCount, or set enableAutoScaling to false.",
                    spec.count
                ),
            ));
        }
    }
    let count = asked.unwrap_or_else(|| existing.map_or(1, |spec| i64::from(spec.count)));
    u32::try_from(count).ok().filter(|count| (min..=max).contains(count)).ok_or_else(|| {
        Invalid::parameter(
            "agentPoolProfile.count",
            format!("agentPoolProfile.count was {count}. It must be greater or equal to minCount:{min} and less than or equal to maxCount:{max}."),
        )
    })
}
