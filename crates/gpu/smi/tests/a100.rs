//! The whole life of slices on A100s, in nvidia-smi's words.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy knows the tests, not their helpers

mod machine;

use machine::{Machine, run};
use nvml_sim::{Fault, Options};

fn a100(count: u32) -> Machine {
    let root_id = Some("6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap());
    Machine::with(
        "A100-40GB",
        count,
        &Options {
            root_id,
            ..Options::default()
        },
    )
}

#[test]
fn slices_are_created_listed_and_destroyed() {
    let machine = a100(1);
    let mut said = String::new();
    for arguments in [
        "-mig 1",
        "mig -cgi 3g.20gb,14,19:2,1g.5gb:3 -C",
        "mig -lgi",
        "mig -lci",
        "mig -lgip",
        "-L",
        "mig -dci",
        "mig -dgi",
        "-mig 0",
    ] {
        said.push_str(&machine.transcript(arguments));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_gpu_instance_is_divided_into_compute_instances() {
    let machine = a100(1);
    machine.done("-mig 1");
    machine.done("mig -cgi 3g.20gb:4");
    let mut said = String::new();
    for arguments in [
        "mig -lcip",
        "mig -lcipp",
        "mig -cci 1c.3g.20gb,1",
        "mig -lcip",
        "mig -lci",
        "-L",
    ] {
        said.push_str(&machine.transcript(arguments));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn the_summary_shows_slices_and_processes() {
    let machine = a100(2);
    machine.done("-mig 1 -i 1");
    machine.done("mig -cgi 9,14 -C");
    let nvml = nvml::Nvml::load(machine.root.path()).unwrap();
    let uuid = nvml
        .inventory()
        .unwrap()
        .mig_devices()
        .next()
        .unwrap()
        .device
        .uuid
        .clone();
    let device = machine.root.device(uuid.as_str()).unwrap();
    machine
        .root
        .register_process(std::process::id(), device, 512, 0)
        .unwrap();
    let text = machine.done("");
    let (_, table) = text.split_once('\n').unwrap();
    for line in table.lines().filter(|line| !line.is_empty()) {
        assert_eq!(line.chars().count(), 91, "{line}");
    }
    // The process is this test, whose number and name are new each time.
    let own = format!("{}      C", std::process::id());
    let shown: Vec<&str> = table.lines().filter(|line| !line.contains(&own)).collect();
    assert_eq!(
        table.lines().count(),
        shown.len() + 1,
        "this process is not in\n{table}"
    );
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn refusals_are_said_as_nvidia_smi_says_them() {
    let machine = a100(1);
    machine.done("-mig 1");
    machine.done("mig -cgi 7g.40gb -C");
    let cases = [
        (
            "mig -cgi 19",
            255,
            "Unable to create a GPU instance on GPU  0 using profile 19: Insufficient Resources\n\
             Failed to create GPU instances: Insufficient Resources\n",
        ),
        (
            "mig -dgi",
            255,
            "Unable to destroy GPU instance ID  0 from GPU  0: In use by another client\n\
             Failed to destroy GPU instances: In use by another client\n",
        ),
        ("mig -dgi -gi 5", 6, "No GPU instances found: Not Found\n"),
        (
            "mig -dci -ci 3",
            6,
            "No compute instances found: Not Found\n",
        ),
        (
            "-mig 0",
            255,
            "Unable to disable MIG Mode for GPU 00000000:07:00.0: In use by another client\n\
             Terminating early due to previous errors.\n",
        ),
        (
            "mig -cgi 3g.40gb",
            3,
            "Unable to create a GPU instance on GPU  0 using profile 3g.40gb: Not Supported\n\
             Failed to create GPU instances: Not Supported\n",
        ),
    ];
    for (arguments, code, text) in cases {
        assert_eq!(
            machine.run(arguments),
            (text.to_owned(), code),
            "nvidia-smi {arguments}"
        );
    }
    assert_eq!(
        machine.done("mig -dci"),
        "Successfully destroyed compute instance ID  0 from GPU  0 GPU instance ID  0\n"
    );
    assert_eq!(
        machine.done("mig -dgi"),
        "Successfully destroyed GPU instance ID  0 from GPU  0\n"
    );
    assert_eq!(
        machine.run("mig -lgi"),
        ("No GPU instances found: Not Found\n".to_owned(), 6)
    );
}

#[test]
fn what_was_created_before_a_refusal_stays() {
    let machine = a100(1);
    machine.done("-mig 1");
    let (text, code) = machine.run("mig -cgi 9,9,9");
    assert_eq!(code, 255);
    assert_eq!(
        text.matches("Successfully created GPU instance").count(),
        2,
        "{text}"
    );
    assert!(
        text.ends_with("Failed to create GPU instances: Insufficient Resources\n"),
        "{text}"
    );
    assert_eq!(machine.done("mig -lgi").matches("MIG 3g.20gb").count(), 2);
}

#[test]
fn commands_keep_to_the_gpu_and_instance_that_they_are_told() {
    let machine = a100(3);
    machine.done("-mig 1 -i 0,2");
    assert_eq!(
        machine.done("--query-gpu=mig.mode.current --format=csv,noheader"),
        "Enabled\nDisabled\nEnabled\n"
    );
    machine.done("mig -cgi 9,9 -i 2");
    let list = machine.done("mig -lgi");
    assert_eq!(
        (
            list.matches("|   2  MIG").count(),
            list.matches("|   0  MIG").count()
        ),
        (2, 0),
        "{list}"
    );
    machine.done("mig -cci -gi 1");
    let list = machine.done("mig -lci");
    assert_eq!(
        list.matches("|   2      1       MIG 3g.20gb").count(),
        1,
        "{list}"
    );
    assert_eq!(list.matches("MIG 3g.20gb").count(), 1, "{list}");
    machine.done("mig -dgi -gi 2");
    assert_eq!(machine.done("mig -lgi").matches("MIG 3g.20gb").count(), 1);
    let uuid = machine.done("--query-gpu=uuid --format=csv,noheader -i 1");
    assert_eq!(
        machine.done(&format!(
            "-i {},7 --query-gpu=index --format=noheader",
            uuid.trim()
        )),
        "1\n"
    );
}

#[test]
fn in_a_guest_the_mode_waits_for_the_reboot_and_says_so() {
    let machine = Machine::with(
        "A100-40GB",
        1,
        &Options {
            pass_through: true,
            ..Options::default()
        },
    );
    let text = machine.done("-mig 1");
    assert!(
        text.starts_with("Warning: MIG mode is in pending enable state for GPU 00000000:07:00.0:"),
        "{text}"
    );
    assert!(
        text.contains("Reboot the system or try nvidia-smi --gpu-reset"),
        "{text}"
    );
    let modes = "--query-gpu=mig.mode.current,mig.mode.pending --format=csv,noheader";
    assert_eq!(machine.done(modes), "Disabled, Enabled\n");
    machine.root.reboot().unwrap();
    assert_eq!(machine.done(modes), "Enabled, Enabled\n");
}

#[test]
fn in_a_pod_only_its_own_slice_is_listed() {
    let machine = a100(2);
    machine.done("-mig 1");
    machine.done("mig -cgi 19,19 -C");
    let nvml = nvml::Nvml::load(machine.root.path()).unwrap();
    let inventory = nvml.inventory().unwrap();
    let mine = inventory.mig_devices().last().unwrap();
    let cap = |minor: Option<u32>| format!("/dev/nvidia-caps/nvidia-cap{}", minor.unwrap()).into();
    let files = [
        format!("/dev/nvidia{}", mine.gpu.minor).into(),
        cap(mine.gpu_instance.capability_minor),
        cap(mine.compute_instance.capability_minor),
    ];
    let pod = tempfile::tempdir().unwrap();
    machine.root.pod_view(pod.path(), &files).unwrap();
    let (text, code) = run(pod.path(), "-L");
    let expected = format!(
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: {})\n  MIG 1g.5gb      Device  0: (UUID: {})\n",
        mine.gpu.uuid, mine.device.uuid
    );
    assert_eq!((text, code), (expected, 0));
}

#[test]
fn a_lost_gpu_is_told_after_the_others_and_fails_the_command() {
    let machine = a100(2);
    machine.root.inject(Fault::GpuLost { gpu: 0 }).unwrap();
    let (text, code) = machine.run("-L");
    assert_eq!(code, 255);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.first().unwrap().starts_with("GPU 1: NVIDIA A100"),
        "{text}"
    );
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("Unable to determine the device handle for GPU 0: "),
        "{text}"
    );
}

#[test]
fn without_a_driver_it_says_so() {
    let root = tempfile::tempdir().unwrap();
    let (text, code) = run(root.path(), "-L");
    assert_eq!(code, 12);
    assert_eq!(
        text,
        "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n"
    );
    assert_eq!(run(root.path(), "-h").1, 0, "help needs no driver");
}
