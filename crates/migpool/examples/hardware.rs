//! The device plugin of this machine's real driver, against the embedded device manager: what is advertised, and what an
//! Allocate answers. Reads the GPUs and changes nothing. `hardware MIGPOOL [DRIVER_ROOT]`

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use local::kubelet::ledger::Holder;
use local::kubelet::{DeviceManager, Wish};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Outcome {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("name the migpool program")?;
    let driver_root = arguments.next().unwrap_or_else(|| "/".into());
    let folder = tempfile::tempdir()?;
    let manager = DeviceManager::start(folder.path())?;
    let mut view = manager.view();
    let mut plugin = Command::new(program)
        .args([
            "device-plugin",
            "--mig-strategy",
            "single",
            "--pass-device-specs",
        ])
        .arg("--driver-root")
        .arg(driver_root)
        .arg("--kubelet-dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .spawn()?;
    let outcome = async {
        let advertised = view.wait_for(|view| !view.ledger().allocatable().is_empty());
        let ledger = tokio::time::timeout(Duration::from_secs(20), advertised)
            .await??
            .ledger()
            .clone();
        println!("capacity:    {:?}", ledger.capacity());
        println!("allocatable: {:?}", ledger.allocatable());
        for (resource, device) in ledger.devices() {
            println!(
                "device:      {resource} {} healthy={}",
                device.id, device.healthy
            );
        }
        for resource in ledger.allocatable().keys() {
            let holder = Holder {
                pod_uid: "1".into(),
                namespace: "default".into(),
                pod: "check".into(),
                container: "main".into(),
            };
            let wish = Wish {
                holder,
                devices: BTreeMap::from([(resource.clone(), 1)]),
            };
            for assignment in manager.assign(&[wish]).await? {
                println!("allocate:    {:?}", manager.allocate(&assignment).await?);
            }
            manager.release("1").await;
        }
        Outcome::Ok(())
    }
    .await;
    plugin.kill()?;
    plugin.wait()?;
    outcome
}
