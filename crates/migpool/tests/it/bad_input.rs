//! Bad input: a sentence that says what was wrong and what is allowed, the right exit code, and nothing changed.

use crate::control_plane::{CLUSTER, ControlPlane, GROUP, failure, migpool};

const SIZE: &str = "Standard_ND96asr_v4";

/// Adds a pool that must be refused as a misuse, and gives what was said. No pool may be there afterwards.
fn refused_pool(plane: &ControlPlane, name: &str, rest: &[&str]) -> String {
    let mut words = vec![
        "nodepool",
        "add",
        "--name",
        name,
        "-g",
        GROUP,
        "--cluster-name",
        CLUSTER,
    ];
    words.extend(rest);
    let (code, said) = plane.fails(&words);
    assert_eq!(code, 2, "{said}");
    let pools = plane.json(&["nodepool", "list", "-g", GROUP, "--cluster-name", CLUSTER]);
    assert_eq!(
        pools.as_array().unwrap().len(),
        1,
        "only the system pool is there: {pools}"
    );
    said
}

#[test]
fn what_a_pool_cannot_be_is_refused_in_a_sentence_before_anything_is_stored() {
    let plane = ControlPlane::with_cluster();
    let said = refused_pool(
        &plane,
        "mignode",
        &["-s", SIZE, "--gpu-instance-profile", "MIG5g"],
    );
    assert!(
        said.contains("MIG1g") && said.contains("MIG7g"),
        "lists the profiles: {said}"
    );

    let said = refused_pool(&plane, "mignode", &["-s", SIZE, "--layout", "1g.10gb*9"]);
    assert!(
        said.contains("nearest") || said.contains("fit"),
        "says what would fit: {said}"
    );

    let said = refused_pool(&plane, "mignode", &["-s", SIZE, "--layout", "1g.99gb"]);
    assert!(
        said.contains("1g.5gb") && said.contains("7g.40gb"),
        "lists the board's: {said}"
    );

    let said = refused_pool(&plane, "mignode", &["-s", "Standard_ND96asr_v5"]);
    assert!(
        said.contains("Standard_ND96asr_v4"),
        "says the nearest size: {said}"
    );

    let said = refused_pool(
        &plane,
        "mignode",
        &["-s", "Standard_D4s_v5", "--gpu-instance-profile", "MIG1g"],
    );
    assert!(said.contains("no GPU"), "{said}");

    let said = refused_pool(
        &plane,
        "mignode",
        &[
            "-s",
            "Standard_NC4as_T4_v3",
            "--gpu-instance-profile",
            "MIG1g",
        ],
    );
    assert!(said.contains("without MIG"), "{said}");

    let said = refused_pool(&plane, "MigNode", &["-s", SIZE]);
    assert!(said.contains("agentPoolProfile.name"), "{said}");

    let said = refused_pool(&plane, "mignode", &["-s", SIZE, "-c", "1001"]);
    assert!(said.contains("1000"), "{said}");
}

#[test]
fn a_missing_group_or_cluster_is_named() {
    let plane = ControlPlane::with_cluster();
    let (code, said) = plane.fails(&["cluster", "create", "-g", "elsewhere", "--name", "c"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("Resource group 'elsewhere' could not be found."),
        "{said}"
    );
    let (code, said) = plane.fails(&[
        "nodepool",
        "add",
        "--name",
        "mignode",
        "-g",
        GROUP,
        "--cluster-name",
        "nowhere",
        "-s",
        SIZE,
    ]);
    assert_eq!(code, 1);
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn an_old_api_version_ignores_the_profile_as_azure_does_and_says_so() {
    let plane = ControlPlane::with_cluster();
    let output = plane
        .command(&[
            "nodepool",
            "add",
            "--name",
            "old",
            "-g",
            GROUP,
            "--cluster-name",
            CLUSTER,
            "-s",
            SIZE,
            "--gpu-instance-profile",
            "MIG1g",
            "-c",
            "0",
            "--api-version",
            "2021-07-01",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("2021-08-01"),
        "{said}"
    );
    let pool = plane.json(&[
        "nodepool",
        "show",
        "--name",
        "old",
        "-g",
        GROUP,
        "--cluster-name",
        CLUSTER,
    ]);
    assert!(pool["properties"]["gpuInstanceProfile"].is_null());
}

#[test]
fn a_broken_manifest_is_refused_with_line_and_column_and_runs_nothing() {
    let plane = ControlPlane::with_cluster();
    let good = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: good\nspec:\n  containers:\n  - name: a\n    image: b\n    command: [\"true\"]\n";
    let file = plane.file(
        "broken.yaml",
        &format!("{good}---\napiVersion: v1\nkind: Pod\nmetadata: [\n"),
    );
    let (code, said) = plane.fails(&["pod", "run", "-f", &file]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("line") && said.contains("column"), "{said}");
    assert!(
        plane.pods().is_empty(),
        "the good document was not run either"
    );

    let file = plane.file(
        "hostnet.yaml",
        &good.replace("spec:\n", "spec:\n  hostNetwork: true\n"),
    );
    let (code, said) = plane.fails(&["pod", "run", "-f", &file]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("hostNetwork"), "{said}");
}

#[test]
fn an_api_version_that_nobody_knows_is_refused() {
    let plane = ControlPlane::with_cluster();
    let (code, said) = plane.fails(&["cluster", "list", "--api-version", "1999-01-01"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("1999-01-01"), "{said}");
}

#[test]
fn without_an_up_a_command_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = failure(
        migpool()
            .args(["group", "list"])
            .env("MIGPOOL_STATE_DIR", folder.path()),
    );
    assert_eq!(code, 1);
    assert!(said.contains("migpool up"), "{said}");
}

#[test]
fn a_driver_root_without_a_library_is_named_with_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let (code, said) = failure(migpool().args(["partition", "export", "--driver-root", root]));
    assert_eq!(code, 1);
    assert!(
        said.contains(root) && said.contains("libnvidia-ml.so.1"),
        "{said}"
    );
}

#[test]
fn an_unknown_board_is_refused_with_the_known_ones() {
    let (code, said) = failure(migpool().args(["profiles", "--board", "A1000"]));
    assert_eq!(code, 2);
    assert!(
        said.contains("A100-40GB") && said.contains("H200-141GB"),
        "{said}"
    );
}

#[test]
fn a_state_folder_of_a_newer_version_is_refused() {
    let mut plane = ControlPlane::start();
    plane.kill();
    std::fs::write(plane.state_dir().join("version"), "999\n").unwrap();
    let (code, said) = failure(&mut plane.command(&["up"]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("newer"), "{said}");
}

#[test]
fn a_node_that_should_have_gpus_and_has_no_driver_fails_its_pool_with_the_reason() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("SKIPPED: this machine has an NVIDIA driver");
        return;
    }
    let plane = ControlPlane::with_real_gpus();
    let (code, said) = plane.fails(&[
        "nodepool",
        "add",
        "--name",
        "mignode",
        "-g",
        GROUP,
        "--cluster-name",
        CLUSTER,
        "-s",
        "Standard_NC24ads_A100_v4",
        "--gpu-instance-profile",
        "MIG1g",
        "-c",
        "1",
    ]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("libnvidia-ml.so.1") && said.contains("install the NVIDIA driver"),
        "{said}"
    );
    let list = plane.run(&["nodepool", "list", "-g", GROUP, "--cluster-name", CLUSTER]);
    assert!(
        list.contains("Failed") && list.contains("libnvidia-ml.so.1"),
        "{list}"
    );
}

#[test]
fn a_manifest_without_a_pod_is_refused_and_not_taken_for_done() {
    let plane = ControlPlane::with_cluster();
    let file = plane.file("empty.yaml", "# nothing here\n");
    let (code, said) = plane.fails(&["pod", "run", "-f", &file]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("empty.yaml"), "{said}");
}
