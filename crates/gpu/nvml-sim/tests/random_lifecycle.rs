//! Random sequences of lifecycle calls, on every kind of board.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]
#![cfg(feature = "host")]

use migpool_nvml_sim::capability::View;
use migpool_nvml_sim::driver::placement::{Kind, Span, capacity, default_start, free_starts};
use migpool_nvml_sim::driver::{
    ComputeInstanceRef, Device, GpuInstanceRef, compute_instance, gpu_instance, mig_device, mode,
};
use migpool_nvml_sim::state::{PciAddress, SimGpu, State};
use migpool_nvml_sim::{DriverRoot, Return};
use proptest::prelude::*;

const GPU: Device = Device::Gpu(0);

/// A machine's state with one GPU of each board; no files are needed for the semantics.
fn boards() -> State {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<_> = mig::boards().iter().map(|board| (board, 1)).collect();
    let root = DriverRoot::create(folder.path(), &all).unwrap();
    let state = root.state().unwrap();
    State::clone(&state)
}

/// A state with one GPU of the given board.
fn one_gpu(all: &State, board: usize) -> State {
    let mut state = all.clone();
    let board = board % state.boards.len();
    state.gpus = vec![SimGpu {
        board: u32::try_from(board).unwrap(),
        minor: 0,
        pci: PciAddress {
            domain: 0,
            bus: 1,
            device: 0,
        },
        ..all.gpus[0].clone()
    }];
    mode::set(&mut state, GPU, true).unwrap();
    state
}

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    CreateAt(usize, usize),
    CreateCompute(usize, usize),
    Destroy(usize),
    DestroyCompute(usize, usize),
    Mode(bool),
    Reboot,
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..16_usize;
    prop_oneof![
        6 => n().prop_map(Step::Create),
        6 => (n(), n()).prop_map(|(profile, start)| Step::CreateAt(profile, start)),
        8 => (n(), n()).prop_map(|(gi, profile)| Step::CreateCompute(gi, profile)),
        3 => n().prop_map(Step::Destroy),
        3 => (n(), n()).prop_map(|(gi, ci)| Step::DestroyCompute(gi, ci)),
        1 => any::<bool>().prop_map(Step::Mode),
        1 => Just(Step::Reboot),
    ]
}

fn pick<T: Copy>(list: &[T], index: usize) -> Option<T> {
    list.get(index.checked_rem(list.len())?).copied()
}

fn gi_at(state: &State, index: usize) -> Option<GpuInstanceRef> {
    let ids: Vec<_> = state.gpus[0].instances.iter().map(|gi| gi.id).collect();
    pick(&ids, index).map(|id| GpuInstanceRef { gpu: 0, id })
}

fn take(state: &mut State, step: &Step) -> Result<(), Return> {
    let profiles = state.boards[state.gpus[0].board as usize].profiles.clone();
    match *step {
        Step::Create(profile) => {
            let id = profiles[profile % profiles.len()].id;
            let capacity = gpu_instance::remaining_capacity(state, GPU, id)?;
            let on = state.gpus[0].mig_current;
            let made = gpu_instance::create(state, GPU, id, None);
            // The capacity that the driver states is the truth.
            assert_eq!(made.is_ok(), on && capacity > 0);
            made.map(drop)
        }
        Step::CreateAt(profile, start) => {
            let profile = &profiles[profile % profiles.len()];
            let start = profile.starts[start % profile.starts.len()];
            let at = Some(Span {
                start,
                size: profile.size,
            });
            gpu_instance::create(state, GPU, profile.id, at).map(drop)
        }
        Step::CreateCompute(gi, profile) => {
            let Some(gi) = gi_at(state, gi) else {
                return Ok(());
            };
            let ids: Vec<_> = compute_instance::profiles(state, gi)?
                .iter()
                .map(|p| p.id)
                .collect();
            let id = pick(&ids, profile).ok_or(Return::NOT_SUPPORTED)?;
            compute_instance::create(state, gi, id, None).map(drop)
        }
        Step::Destroy(gi) => match gi_at(state, gi) {
            Some(gi) => gpu_instance::destroy(state, gi),
            None => Ok(()),
        },
        Step::DestroyCompute(gi, ci) => {
            let Some(gi) = gi_at(state, gi) else {
                return Ok(());
            };
            let found = state.gpus[0].instance(gi.id)?;
            let ids: Vec<_> = found.compute_instances.iter().map(|ci| ci.id).collect();
            let Some(id) = pick(&ids, ci) else {
                return Ok(());
            };
            compute_instance::destroy(
                state,
                ComputeInstanceRef {
                    gpu_instance: gi,
                    id,
                },
            )
        }
        Step::Mode(on) => mode::set(state, GPU, on).map(drop),
        Step::Reboot => {
            mode::reboot(state);
            Ok(())
        }
    }
}

fn check(state: &State) {
    let gpu = &state.gpus[0];
    let board = &state.boards[gpu.board as usize];
    assert!(gpu.mig_current || gpu.instances.is_empty());
    let spans: Vec<_> = gpu
        .instances
        .iter()
        .map(|gi| Span {
            start: gi.start,
            size: gi.size,
        })
        .collect();
    no_overlap(&spans, board.memory_units);
    let slices: u8 = gpu
        .instances
        .iter()
        .map(|gi| board.profile(gi.profile_id).unwrap().slices)
        .sum();
    assert!(slices <= board.compute_slices);
    let mut ids: Vec<_> = gpu.instances.iter().map(|gi| gi.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), gpu.instances.len());
    for gi in &gpu.instances {
        let profile = board.profile(gi.profile_id).unwrap();
        assert!(profile.starts.contains(&gi.start) && profile.size == gi.size);
        let same = gpu
            .instances
            .iter()
            .filter(|other| other.profile_id == gi.profile_id);
        assert!(same.count() <= usize::from(profile.max_instances));
        let spans: Vec<_> = gi
            .compute_instances
            .iter()
            .map(|ci| Span {
                start: ci.start,
                size: ci.size,
            })
            .collect();
        no_overlap(&spans, profile.slices);
    }
    let view = View::everything();
    let devices = gpu
        .instances
        .iter()
        .map(|gi| gi.compute_instances.len())
        .sum::<usize>();
    let mut uuids = Vec::new();
    for index in 0..u32::try_from(devices).unwrap() {
        let device = mig_device::by_index(state, &view, GPU, index).unwrap();
        let Device::Mig(instance) = device else {
            panic!("index {index} is no MIG device")
        };
        let uuid = mig_device::uuid(state, instance).unwrap();
        assert_eq!(mig_device::by_uuid(state, &view, &uuid), Ok(instance));
        assert_eq!(mig_device::index(state, &view, instance), Ok(index));
        uuids.push(uuid);
    }
    assert!(devices <= usize::from(board.compute_slices));
    uuids.sort();
    uuids.dedup();
    assert_eq!(uuids.len(), devices);
    let bytes = postcard::to_stdvec(state).unwrap();
    assert_eq!(&postcard::from_bytes::<State>(&bytes).unwrap(), state);
}

fn no_overlap(spans: &[Span], units: u8) {
    for (index, span) in spans.iter().enumerate() {
        assert!(span.start + span.size <= units);
        assert!(
            spans
                .iter()
                .skip(index + 1)
                .all(|other| !span.overlaps(*other))
        );
    }
}

/// The most instances of a kind that fit, by trying everything.
fn brute_force(kind: &Kind, taken: &[Span]) -> u32 {
    let starts: Vec<_> = free_starts(kind, taken).collect();
    starts
        .into_iter()
        .map(|start| {
            let mut after = taken.to_vec();
            after.push(Span {
                start,
                size: kind.size,
            });
            1 + brute_force(kind, &after)
        })
        .max()
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_calls_breaks_the_rules(board in 0..15_usize, steps in prop::collection::vec(step(), 1..60)) {
        thread_local!(static ALL: State = boards());
        let mut state = ALL.with(|all| one_gpu(all, board));
        for step in &steps {
            let before = state.clone();
            if take(&mut state, step).is_err() {
                prop_assert_eq!(&state, &before);
            }
            check(&state);
        }
    }

    #[test]
    fn capacity_is_what_trying_everything_finds(
        size in 1..5_u8,
        starts in prop::collection::btree_set(0..12_u8, 1..8),
        max in 1..8_u8,
        taken in prop::collection::vec((0..12_u8, 1..4_u8), 0..4),
        present in 0..3_usize,
    ) {
        let kind = Kind { id: 0, size, starts: starts.into_iter().collect(), max_instances: max };
        let taken: Vec<_> = taken.into_iter().map(|(start, size)| Span { start, size }).collect();
        let room = u32::from(max).saturating_sub(u32::try_from(present).unwrap());
        prop_assert_eq!(capacity(&kind, present, &taken), brute_force(&kind, &taken).min(room));
        let start = default_start(std::slice::from_ref(&kind), &kind, &taken);
        prop_assert_eq!(start.is_some(), free_starts(&kind, &taken).next().is_some());
    }
}
