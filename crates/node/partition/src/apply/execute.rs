//! Carries out a plan: each GPU by itself, stopping on a GPU at its first failure.

use std::time::Instant;

use mig::MigProfile;
use nvml::{MigModeOutcome, Nvml, ReturnCode};

use super::microseconds;
use crate::holder::Holder;
use crate::plan::{Action, GpuPlan, Plan, Target};
use crate::report::{CallRecord, Problem, ProblemKind};

/// Makes the calls, and gives back each of them and what went wrong.
pub(super) fn execute(nvml: &Nvml, plan: &Plan) -> (Vec<CallRecord>, Vec<Problem>) {
    let mut calls = Vec::with_capacity(plan.calls());
    let mut problems = Vec::new();
    for gpu in &plan.gpus {
        if let Err(problem) = (GpuRun {
            nvml,
            gpu,
            created: None,
            calls: &mut calls,
        })
        .run()
        {
            tracing::warn!(
                gpu = gpu.index,
                problem = problem.message,
                "GPU not brought to its layout"
            );
            problems.push(problem);
        }
    }
    (calls, problems)
}

/// The work on one GPU.
struct GpuRun<'a> {
    nvml: &'a Nvml,
    gpu: &'a GpuPlan,
    /// Id of the GPU instance that was created last.
    created: Option<u32>,
    calls: &'a mut Vec<CallRecord>,
}

impl GpuRun<'_> {
    fn run(&mut self) -> Result<(), Problem> {
        for action in &self.gpu.actions {
            self.step(action)?;
        }
        Ok(())
    }

    fn step(&mut self, action: &Action) -> Result<(), Problem> {
        let (nvml, uuid) = (self.nvml, &self.gpu.uuid);
        match action {
            Action::EnableMig => self.set_mode(true),
            Action::DisableMig => self.set_mode(false),
            Action::DestroyComputeInstance {
                gpu_instance,
                compute_instance,
            } => self.call(
                "nvmlComputeInstanceDestroy",
                format!("GPU instance {gpu_instance}, compute instance {compute_instance}"),
                || nvml.destroy_compute_instance(uuid, *gpu_instance, *compute_instance),
                |()| "ok".to_owned(),
            ),
            Action::DestroyGpuInstance {
                gpu_instance,
                profile,
                placement,
            } => self.call(
                "nvmlGpuInstanceDestroy",
                format!(
                    "GPU instance {gpu_instance} ({profile} at {})",
                    placement.start()
                ),
                || nvml.destroy_gpu_instance(uuid, *gpu_instance),
                |()| "ok".to_owned(),
            ),
            Action::CreateGpuInstance {
                profile,
                profile_id,
                placement,
            } => {
                self.created = None;
                let id = self.call(
                    "nvmlDeviceCreateGpuInstanceWithPlacement",
                    format!("{profile} (profile {profile_id}) at {}", placement.start()),
                    || nvml.create_gpu_instance(uuid, *profile_id, *placement),
                    |id| format!("ok: GPU instance {id}"),
                )?;
                self.created = Some(id);
                Ok(())
            }
            Action::CreateComputeInstance {
                target,
                profile,
                profile_id,
            } => {
                let instance = match target {
                    Target::Existing(id) => Some(*id),
                    Target::Created => self.created,
                };
                let Some(instance) = instance else {
                    let message = format!("no GPU instance was created for {profile}");
                    return Err(self.problem(ProblemKind::Call, &message));
                };
                self.create_compute_instance(instance, *profile, *profile_id)
            }
        }
    }

    /// Creates a compute instance. Its profile id is the one that boards have as a rule; where the driver does not know
    /// it there, its own list of the GPU instance's profiles says which one has as many slices.
    fn create_compute_instance(
        &mut self,
        instance: u32,
        profile: MigProfile,
        profile_id: u32,
    ) -> Result<(), Problem> {
        let (nvml, uuid) = (self.nvml, &self.gpu.uuid);
        let mut create = |profile_id: u32| {
            self.call(
                "nvmlGpuInstanceCreateComputeInstance",
                format!("{profile} (profile {profile_id}) in GPU instance {instance}"),
                || nvml.create_compute_instance(uuid, instance, profile_id),
                |id| format!("ok: compute instance {id}"),
            )
        };
        let Err(problem) = create(profile_id) else {
            return Ok(());
        };
        let listed = nvml
            .compute_instance_profiles(uuid, instance)
            .unwrap_or_default();
        let slices = profile.compute_slices();
        match listed.iter().find(|listed| listed.slices == slices) {
            Some(other) if other.id != profile_id => create(other.id).map(drop),
            _ => Err(problem),
        }
    }

    /// Changes the mode. NVML resets an idle GPU by itself where it can.
    fn set_mode(&mut self, on: bool) -> Result<(), Problem> {
        let (nvml, uuid) = (self.nvml, &self.gpu.uuid);
        let outcome = self.call(
            "nvmlDeviceSetMigMode",
            if on { "on" } else { "off" }.to_owned(),
            || nvml.set_mig_mode(uuid, on),
            |outcome| match outcome {
                MigModeOutcome::Current => "ok".to_owned(),
                MigModeOutcome::Pending(status) => format!("pending: {status}"),
            },
        )?;
        match outcome {
            MigModeOutcome::Current => Ok(()),
            MigModeOutcome::Pending(status) => Err(self.pending(on, &status)),
        }
    }

    /// Why a change of mode is not there yet, and what finishes it.
    fn pending(&self, on: bool, status: &str) -> Problem {
        let word = if on { "on" } else { "off" };
        let users: Vec<String> = self
            .nvml
            .processes(&self.gpu.uuid)
            .unwrap_or_default()
            .iter()
            .map(|process| Holder::of_process(&self.gpu.uuid, process).who)
            .collect();
        if users.is_empty() && status != ReturnCode::ERROR_IN_USE.text() {
            let message = format!(
                "MIG mode will be {word} after a reboot, and only a reboot of this machine can \
                 finish it ({status}); reboot it, then apply again"
            );
            return self.problem(ProblemKind::RebootNeeded, &message);
        }
        let users = if users.is_empty() {
            "something".to_owned()
        } else {
            users.join(", ")
        };
        let message = format!(
            "MIG mode cannot be turned {word} while {users} uses the GPU; end that, then apply again"
        );
        self.problem(ProblemKind::InUse, &message)
    }

    /// Makes one call and records it.
    fn call<T>(
        &mut self,
        call: &str,
        arguments: String,
        make: impl FnOnce() -> Result<T, nvml::Error>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, Problem> {
        let clock = Instant::now();
        let result = make();
        let duration_us = microseconds(clock.elapsed());
        tracing::debug!(gpu = self.gpu.index, call, arguments, ok = result.is_ok());
        let record = |result: String, ok: bool| {
            self.calls.push(CallRecord {
                call: call.to_owned(),
                gpu: self.gpu.index,
                uuid: self.gpu.uuid.to_string(),
                arguments,
                result,
                ok,
                duration_us,
            });
        };
        match result {
            Ok(value) => {
                record(describe(&value), true);
                Ok(value)
            }
            Err(error) => {
                record(error.to_string(), false);
                Err(self.problem(ProblemKind::Call, &format!("{error}; apply again to go on")))
            }
        }
    }

    fn problem(&self, kind: ProblemKind, message: &str) -> Problem {
        Problem {
            gpu: self.gpu.index,
            uuid: Some(self.gpu.uuid.to_string()),
            kind,
            message: format!("GPU {}: {message}", self.gpu.index),
        }
    }
}
