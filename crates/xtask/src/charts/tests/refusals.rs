//! Every sentence with which a chart refuses values.

use std::process::Command;

use super::{CHARTS, helm, root, run, template, text};

const PLUGIN: &str = "nvidia-device-plugin";

/// (chart, arguments, what it says)
const REFUSED: &[(&str, &[&str], &str)] = &[
    (
        "migpool",
        &["--set=layout=1g.5gb", "--set=gpuInstanceProfile=MIG1g"],
        "layout and gpuInstanceProfile are both set",
    ),
    (
        "migpool",
        &["--set=arm.enabled=true", "--set=operator.enabled=false"],
        "arm.enabled is true and operator.enabled is false",
    ),
    (
        "migpool",
        &["--set=arm.enabled=true", "--set=operator.replicas=0"],
        "arm.enabled is true and operator.replicas is 0",
    ),
    (
        "migpool",
        &[
            "--set=arm.enabled=true",
            "--set=arm.issuer.url=https://issuer.example",
        ],
        "arm.issuer.url is set and arm.issuer.audience is not",
    ),
    (
        "migpool",
        &["--set=arm.credentials.server=http://api.example"],
        "'/arm/credentials/server': ",
    ),
    (
        "migpool",
        &["--set=gpuInstanceProfile=MIG5g"],
        "'/gpuInstanceProfile': value must be one of '', 'MIG1g', 'MIG2g', 'MIG3g', 'MIG4g', 'MIG7g'",
    ),
    (
        "migpool",
        &["--set=migStrategy=both"],
        "'/migStrategy': value must be one of 'none', 'single', 'mixed'",
    ),
    (
        "migpool",
        &["--set=drain=now"],
        "'/drain': value must be one of 'never', 'wait', 'evict'",
    ),
    (
        "migpool",
        &["--set=deviceListStrategy=cdi"],
        "deviceListStrategy: `cdi` is none of cdi-cri, cdi-annotations, envvar and volume-mounts.",
    ),
    (
        "migpool",
        &["--kube-version=1.28.0"],
        "deviceListStrategy is cdi-cri, and the kubelet understands cdi-cri from Kubernetes 1.29 on; this cluster is v1.28.0",
    ),
    (
        "migpool",
        &["--namespace=default", "--set=allowDefaultNamespace=false"],
        "allowDefaultNamespace is false, and the release would go to the namespace `default`",
    ),
    ("migpool", &["--set=listen.port=0"], "'/listen/port'"),
    (
        "migpool",
        &["--set=operator.webhook.port=8091"],
        "operator.listen.port and operator.webhook.port are both 8091: give them two ports.",
    ),
    (
        "migpool",
        &["--set=operator.replicas=-1"],
        "'/operator/replicas': minimum: got -1, want 0",
    ),
    (
        "migpool",
        &["--set=operator.webhook.failurePolicy=Fail"],
        "'/operator/webhook': additional properties 'failurePolicy' not allowed",
    ),
    (
        "migpool",
        &["--set=operator.replica=2"],
        "'/operator': additional properties 'replica' not allowed",
    ),
    (
        "migpool",
        &["--set=crds.keeep=true"],
        "'/crds': additional properties 'keeep' not allowed",
    ),
    (
        PLUGIN,
        &["--set=gdrcopyEnabled=true"],
        "gdrcopyEnabled is true: handing out the devices of GPUDirect and MOFED is not supported; set gdrcopyEnabled=false.",
    ),
    (PLUGIN, &["--set=gdsEnabled=true"], "gdsEnabled is true"),
    (PLUGIN, &["--set=mofedEnabled=true"], "mofedEnabled is true"),
    (
        PLUGIN,
        &["--set=legacyDaemonsetAPI=true"],
        "legacyDaemonsetAPI is true",
    ),
    (
        PLUGIN,
        &["--set=mps.root=/mps"],
        "mps is set: sharing a GPU by MPS is not supported",
    ),
    (
        PLUGIN,
        &["--set=mps.enableHostPID=true"],
        "mps is set: sharing a GPU by MPS is not supported",
    ),
    (
        PLUGIN,
        &["--set=cdi.featureFlags=x"],
        "cdi.featureFlags is set",
    ),
    (
        PLUGIN,
        &["--set=configManager.resources.limits.cpu=1"],
        "configManager.resources is set, and there is no such container",
    ),
    (
        PLUGIN,
        &["--set=gfd.namespaceOverride=x"],
        "gfd.namespaceOverride is set",
    ),
    (
        PLUGIN,
        &["--set=devicePlugin.enabled=false"],
        "devicePlugin.enabled and gfd.enabled are both false: there is nothing to install.",
    ),
    (
        PLUGIN,
        &["--set=nfd.enabled=true"],
        "nfd.deploy (nfd.enabled) is true: this chart does not bring Node Feature Discovery",
    ),
    (
        PLUGIN,
        &["--set=deviceDiscoveryStrategy=tegra"],
        "'/deviceDiscoveryStrategy': value must be one of 'auto', 'nvml'",
    ),
    (
        PLUGIN,
        &["--set=deviceListStrategy=x"],
        "deviceListStrategy: `x` is none of",
    ),
    (
        PLUGIN,
        &["--kube-version=1.28.0"],
        "deviceListStrategy is cdi-cri, and the kubelet",
    ),
    (
        PLUGIN,
        &["--set=config.name=a", "--set=config.map.b=version: v1"],
        "config.name and config.map are both set",
    ),
    (
        PLUGIN,
        &["--set=config.name=a"],
        "config.name is a, and config.default is empty",
    ),
    (
        PLUGIN,
        &["--set=config.default=a"],
        "config.default is a, and there are no configurations",
    ),
    (
        PLUGIN,
        &["--set=config.map.a=version: v1", "--set=config.default=b"],
        "config.default is b, and config.map has no such configuration; it has a.",
    ),
    (
        PLUGIN,
        &[
            "--set=config.map.a=version: v1",
            "--set=config.map.b=version: v1",
        ],
        "config.map has a, b, and none of them is the default",
    ),
    (
        PLUGIN,
        &["--set=config.map.a=flags: x"],
        "config.map.a: `version: v1` is missing.",
    ),
    (
        PLUGIN,
        &["--set-string=config.map.a=["],
        "config.map.a is not YAML",
    ),
    (
        PLUGIN,
        &[
            "--set-json=config.map.a=\"version: v1\\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\"",
        ],
        "config.map.a: sharing of GPUs (timeSlicing, mps) is not supported",
    ),
    (
        PLUGIN,
        &["--set-json=config.map.a=\"version: v1\\nimex: {required: true}\""],
        "config.map.a: IMEX channels are not supported",
    ),
    (
        PLUGIN,
        &["--set-json=config.map.a=\"version: v1\\nflags: {gdsEnabled: true}\""],
        "config.map.a: flags.gdsEnabled is true",
    ),
    (
        PLUGIN,
        &["--set-json=config.map.a=\"version: v1\\nflags: {migStrategy: both}\""],
        "config.map.a: flags.migStrategy is both; it is none, single or mixed.",
    ),
    (
        "gpu-feature-discovery",
        &["--set=nfd.deploy=true"],
        "nfd.deploy (nfd.enabled) is true",
    ),
    (
        "gpu-feature-discovery",
        &["--set=nfd.worker.tolerations[0].key=x"],
        "nfd.worker is set: this chart does not bring Node Feature Discovery; move nfd.* to the values of its own chart.",
    ),
    (
        "gpu-feature-discovery",
        &["--set=nfd.enableNodeFeatureApi=true", "--set=output=file"],
        "nfd.enableNodeFeatureApi is true and output is file",
    ),
    (
        "gpu-feature-discovery",
        &["--set=sleepInterval=often"],
        "'/sleepInterval'",
    ),
    ("nvml-sim", &[], "Say which nodes get simulated GPUs"),
    (
        "nvml-sim",
        &["--set=allNodes=true", "--set=nodeSelector.a=b"],
        "allNodes is true and nodeSelector is set",
    ),
    (
        "nvml-sim",
        &["--set=allNodes=true", "--set=boards=null"],
        "boards is empty",
    ),
    (
        "nvml-sim",
        &[
            "--set=allNodes=true",
            "--set-json=boards=[{\"name\":\"A100-SXM4-40GB\",\"count\":20},{\"name\":\"A100-SXM4-40GB\",\"count\":20}]",
        ],
        "boards are 40 in all: a driver has at most 32 GPUs.",
    ),
];

#[test]
fn what_cannot_be_done_is_refused_in_a_sentence() {
    if helm().is_none() {
        return;
    }
    for (chart, arguments, sentence) in REFUSED {
        match template(chart, arguments).unwrap() {
            Ok(_) => panic!("{chart} {arguments:?} is accepted"),
            Err(said) => assert!(
                said.contains(sentence),
                "{chart} {arguments:?} says\n{said}\nand not\n{sentence}"
            ),
        }
    }
}

#[test]
fn a_value_with_a_typo_is_refused_by_name() {
    for chart in CHARTS {
        let arguments = ["--set=migStrateg=single", "--set=nodeSelector.gpu=yes"];
        let Some(rendered) = template(chart, &arguments) else {
            return;
        };
        let said = rendered.unwrap_err();
        assert!(said.contains("'migStrateg' not allowed"), "{chart}: {said}");
    }
}

#[test]
fn values_for_all_charts_of_a_parent_are_let_pass() {
    for chart in CHARTS {
        let arguments = ["--set=global.anything=x", "--set=nodeSelector.gpu=yes"];
        let Some(rendered) = template(chart, &arguments) else {
            return;
        };
        rendered.unwrap();
    }
}

#[test]
fn helm_lint_has_no_complaint() {
    let Some(helm) = helm() else { return };
    for chart in CHARTS {
        let mut lint = Command::new(&helm);
        lint.args(["lint", "--strict", "--quiet", "--kube-version=1.37.2"]);
        lint.arg(root().join("charts").join(chart));
        let output = run(lint.arg("--set=nodeSelector.gpu=yes"));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    }
}
