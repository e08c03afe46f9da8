//! `migpool node map`: each GPU drawn as its memory units, each slice as long as the units that it takes.

mod this_node;

use std::fmt::Write as _;

use pool::{Holder, NodeGpu, NodeSlice, ObservedNode};

/// Characters of a memory unit of a board with eight units; other boards are drawn as wide in all.
const UNIT_WIDTH: usize = 12;
const WIDTH: usize = 8 * UNIT_WIDTH;

pub(crate) use this_node::ThisNode;

/// What is said of a GPU or a slice that nobody holds.
#[derive(Debug, Clone, Copy)]
struct Words {
    /// Work can be given to it.
    free: &'static str,
    /// No work can be given to it.
    unusable: &'static str,
}

impl Words {
    /// The control plane knows the health of what it gives.
    const OF_THE_CONTROL_PLANE: Self = Self {
        free: "free",
        unusable: "unhealthy",
    };
    /// A kubelet doesn't offer what is unhealthy, held back while GPUs are partitioned, or not advertised.
    const OF_THE_KUBELET: Self = Self {
        free: "free",
        unusable: "not offered",
    };
    /// Nobody tells.
    const WITHOUT_KUBELET: Self = Self {
        free: "?",
        unusable: "?",
    };
}

/// Draws a node's GPUs.
pub(crate) fn draw(node: &ObservedNode) -> String {
    let mut text = format!(
        "{} ({}, {})\n",
        node.spec.name, node.spec.pool.pool, node.spec.vm_size
    );
    draw_gpus(&mut text, &node.gpus, Words::OF_THE_CONTROL_PLANE);
    text
}

fn draw_gpus(text: &mut String, gpus: &[NodeGpu], words: Words) {
    if gpus.is_empty() {
        text.push_str("no GPUs\n");
    }
    for gpu in gpus {
        draw_gpu(text, gpu, words);
    }
}

fn draw_gpu(text: &mut String, gpu: &NodeGpu, words: Words) {
    let health = if gpu.healthy {
        String::new()
    } else {
        format!("  {}", words.unusable.to_uppercase())
    };
    let name = if gpu.name.is_empty() { "?" } else { &gpu.name };
    let _ = writeln!(text, "GPU {}  {name}  {}{health}", gpu.index, gpu.uuid);
    if !gpu.failure.is_empty() {
        let _ = writeln!(text, "  [{}]", gpu.failure);
        return;
    }
    if !gpu.mig_enabled {
        let holder = match &gpu.holder {
            Some(holder) => named(holder),
            None if gpu.healthy => words.free.to_owned(),
            None => words.unusable.to_owned(),
        };
        let _ = writeln!(text, "  [whole GPU: {holder}]");
        return;
    }
    let cells = cells(gpu);
    let lines = [
        cells.iter().map(Cell::first_line).collect::<Vec<_>>(),
        cells.iter().map(|cell| cell.second_line(words)).collect(),
    ];
    for line in lines {
        let mut drawn = String::from("  ");
        for (cell, said) in cells.iter().zip(line) {
            let width = cell.width - 1;
            let _ = write!(drawn, "|{:<width$}", clip(&said, width));
        }
        let _ = writeln!(text, "{drawn}|");
    }
}

/// The pod, with its namespace where that is not the default one.
fn named(holder: &Holder) -> String {
    match holder.namespace.as_str() {
        "" | "default" => holder.pod.clone(),
        namespace => format!("{namespace}/{}", holder.pod),
    }
}

/// A run of memory units: a slice, or nothing.
struct Cell<'a> {
    width: usize,
    slice: Option<&'a NodeSlice>,
}

impl Cell<'_> {
    fn first_line(&self) -> String {
        match self.slice {
            Some(slice) if slice.healthy => slice.profile.clone(),
            Some(slice) => format!("{}!", slice.profile),
            None => String::new(),
        }
    }

    fn second_line(&self, words: Words) -> String {
        match self.slice {
            Some(NodeSlice {
                holder: Some(holder),
                ..
            }) => named(holder),
            Some(slice) if !slice.healthy => words.unusable.to_owned(),
            Some(_) => words.free.to_owned(),
            None => "-".to_owned(),
        }
    }
}

/// The GPU's memory units from left to right. Several compute instances of one GPU instance share its units.
fn cells(gpu: &NodeGpu) -> Vec<Cell<'_>> {
    let units = usize::from(gpu.memory_units.max(1));
    let unit_width = WIDTH / units;
    let mut slices: Vec<_> = gpu.slices.iter().collect();
    slices.sort_by_key(|slice| (slice.start, slice.compute_instance));
    let mut cells = Vec::new();
    let mut next = 0;
    let mut rest = slices.as_slice();
    while let Some(first) = rest.first() {
        let together = rest
            .iter()
            .take_while(|s| s.gpu_instance == first.gpu_instance)
            .count();
        let (instance, others) = rest.split_at(together);
        rest = others;
        let (start, size) = (usize::from(first.start), usize::from(first.size.max(1)));
        if start > next {
            cells.push(Cell {
                width: (start - next) * unit_width,
                slice: None,
            });
        }
        for slice in instance {
            let width = (size * unit_width / instance.len()).max(2);
            cells.push(Cell {
                width,
                slice: Some(slice),
            });
        }
        next = start + size;
    }
    if next < units {
        cells.push(Cell {
            width: (units - next) * unit_width,
            slice: None,
        });
    }
    cells
}

/// At most `width` characters, the last one an ellipsis where something was left out.
fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(width.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(
        gpu_instance: u32,
        profile: &str,
        start: u8,
        size: u8,
        pod: Option<&str>,
    ) -> NodeSlice {
        NodeSlice {
            uuid: format!("MIG-{gpu_instance}"),
            profile: profile.to_owned(),
            gpu_instance,
            compute_instance: 0,
            start,
            size,
            memory_mib: 4864,
            healthy: true,
            holder: pod.map(|pod| pool::Holder {
                namespace: "default".into(),
                pod: pod.into(),
                container: "main".into(),
            }),
        }
    }

    #[test]
    fn a_slice_is_as_long_as_its_memory_units_and_names_its_holder() {
        let gpu = NodeGpu {
            index: 0,
            uuid: "GPU-0".into(),
            name: "NVIDIA A100-SXM4-40GB".into(),
            memory_mib: 40960,
            memory_units: 8,
            compute_slices: 7,
            mig_enabled: true,
            healthy: true,
            failure: String::new(),
            holder: None,
            slices: vec![
                slice(
                    1,
                    "3g.20gb",
                    4,
                    4,
                    Some("a-training-run-with-a-name-that-does-not-fit-in-its-slice"),
                ),
                slice(3, "2g.10gb", 0, 2, None),
            ],
        };
        let mut text = String::new();
        draw_gpu(&mut text, &gpu, Words::OF_THE_CONTROL_PLANE);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "GPU 0  NVIDIA A100-SXM4-40GB  GPU-0");
        assert_eq!(lines[1].chars().count(), lines[2].chars().count());
        assert_eq!(
            lines[1].matches('|').count(),
            4,
            "two slices and the gap between them: {text}"
        );
        let third_bar = lines[1].match_indices('|').nth(2).unwrap().0;
        assert_eq!(
            third_bar,
            2 + 4 * UNIT_WIDTH,
            "3g.20gb begins at memory unit 4"
        );
        assert!(
            lines[2].contains("free") && lines[2].contains('…'),
            "{text}"
        );
    }
}
