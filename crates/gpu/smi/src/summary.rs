//! `nvidia-smi`: the table of GPUs, their MIG devices and processes, 89 columns wide between its bars.

use nvml::{
    ComputeMode, Gpu, GpuStatus, Inventory, Memory, MigDeviceEntry, MigMode, Nvml, ProcessKind,
};

use crate::reply::Reply;
use crate::selection::Selection;

const WHOLE: &str =
    "+-----------------------------------------------------------------------------------------+";
const GPU_RULE: &str =
    "+-----------------------------------------+------------------------+----------------------+";
const MIG_RULE: &str =
    "+------------------+----------------------------------+-----------+-----------------------+";

/// A name that is longer is cut to this, with dots.
const NAME_WIDTH: usize = 27;
const PROCESS_NAME_WIDTH: usize = 35;

/// The whole table.
pub(crate) fn summary(nvml: &Nvml, inventory: &Inventory, selection: &Selection<'_>) -> Reply {
    let mut reply = Reply::default();
    let now = jiff::Zoned::now();
    reply.line(format_args!(
        "{}       ",
        now.strftime("%a %b %e %H:%M:%S %Y")
    ));
    heading(&mut reply, inventory);
    for gpu in &selection.gpus {
        gpu_rows(&mut reply, gpu, &nvml.status(&gpu.uuid));
    }
    if selection.gpus.iter().any(|gpu| gpu.mig_enabled()) {
        reply.line("");
        mig_devices(&mut reply, nvml, selection);
    }
    reply.line("");
    processes(&mut reply, nvml, selection);
    reply
}

fn heading(reply: &mut Reply, inventory: &Inventory) {
    let driver = &inventory.driver_version;
    let cuda = inventory.cuda_version.to_string();
    reply.line(WHOLE);
    reply.line(format_args!(
        "| NVIDIA-SMI {driver:<23}Driver Version: {driver:<15}CUDA Version: {cuda:<9}|"
    ));
    reply.line(GPU_RULE);
    reply.line("| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |");
    reply.line("| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |");
    reply.line("|                                         |                        |               MIG M. |");
    reply.line("|=========================================+========================+======================|");
}

fn gpu_rows(reply: &mut Reply, gpu: &Gpu, status: &GpuStatus) {
    let or_not = |text: Option<String>| text.unwrap_or_else(|| "N/A".to_owned());
    let switch = |on: Option<bool>| match on {
        Some(true) => "On",
        Some(false) => "Off",
        None => "N/A",
    };
    // In MIG mode the count of the whole GPU says nothing, so whether ECC is on stands there.
    let ecc = match (gpu.mig_enabled(), status.ecc) {
        (true, ecc) => switch(ecc.map(|ecc| ecc.current)).to_owned(),
        (false, Some(ecc)) if !ecc.current => "Off".to_owned(),
        (false, _) => or_not(
            status
                .volatile_uncorrected_errors
                .map(|count| count.to_string()),
        ),
    };
    reply.line(format_args!(
        "|{:>4}  {:<31}{:<4}|{:>19} {:<3} |{ecc:>21} |",
        gpu.index,
        cut_end(&gpu.name, NAME_WIDTH),
        switch(status.persistence),
        gpu.pci_bus_id,
        switch(status.display_active),
    ));
    let power = status
        .power
        .map_or_else(|| "N/A ".to_owned(), |power| format!("{}W", power / 1000));
    let limit = status.power_limit.map_or_else(
        || " N/A ".to_owned(),
        |power| format!("{:>4}W", power / 1000),
    );
    let memory = status.memory.map_or_else(
        || format!("{:>21}   ", "N/A"),
        |memory| {
            format!(
                "{:>8}MiB / {:>6}MiB ",
                mebibytes(memory.used),
                mebibytes(memory.total)
            )
        },
    );
    reply.line(format_args!(
        "|{:>4}{:>6}{:>6}{power:>16} / {limit} |{memory}|{:>8}{:>13} |",
        or_not(status.fan.map(|fan| format!("{fan}%"))),
        or_not(status.temperature.map(|degrees| format!("{degrees}C"))),
        or_not(status.performance_state.map(|state| format!("P{state}"))),
        or_not(status.gpu_utilization.map(|percent| format!("{percent}%"))),
        status.compute_mode.map_or("N/A", compute_mode),
    ));
    reply.line(format_args!(
        "|{:41}|{:24}|{:>21} |",
        "",
        "",
        mig_mode(gpu.mig)
    ));
    reply.line(GPU_RULE);
}

const fn compute_mode(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Default => "Default",
        ComputeMode::ExclusiveThread => "E. Thread",
        ComputeMode::Prohibited => "Prohibited",
        ComputeMode::ExclusiveProcess => "E. Process",
    }
}

/// A star says that a reset will change it.
const fn mig_mode(mode: Option<MigMode>) -> &'static str {
    match mode {
        None => "N/A",
        Some(MigMode {
            current: true,
            pending: true,
        }) => "Enabled",
        Some(MigMode {
            current: true,
            pending: false,
        }) => "Enabled*",
        Some(MigMode {
            current: false,
            pending: false,
        }) => "Disabled",
        Some(MigMode {
            current: false,
            pending: true,
        }) => "Disabled*",
    }
}

fn mig_devices(reply: &mut Reply, nvml: &Nvml, selection: &Selection<'_>) {
    reply.line(WHOLE);
    reply.line(format_args!("| {:<88}|", "MIG devices:"));
    reply.line(MIG_RULE);
    reply.line("| GPU  GI  CI  MIG |              Shared Memory-Usage |        Vol|        Shared         |");
    reply.line("|      ID  ID  Dev |                Shared BAR1-Usage | SM     Unc| CE ENC  DEC  OFA  JPG |");
    reply.line("|                  |                                  |        ECC|                       |");
    reply.line("|==================+==================================+===========+=======================|");
    let mut none = true;
    for gpu in &selection.gpus {
        let mut entries: Vec<_> = gpu.mig_devices().collect();
        entries.sort_by_key(|entry| entry.device.index);
        for entry in entries {
            none = false;
            mig_device(reply, nvml, entry);
        }
    }
    if none {
        reply.line(format_args!("|  {:<87}|", "No MIG devices found"));
        reply.line(WHOLE);
    }
}

fn mig_device(reply: &mut Reply, nvml: &Nvml, entry: MigDeviceEntry<'_>) {
    let device = entry.device;
    let memory: Option<Memory> = nvml.mig_device_memory(&device.uuid).ok();
    let usage = |pair: Option<(u64, u64)>| {
        pair.map_or_else(
            || format!("{:>30}    ", "N/A"),
            |(used, total)| format!("{:>16}MiB / {:>5}MiB    ", mebibytes(used), total >> 20),
        )
    };
    reply.line(format_args!(
        "|{:>3}{:>5}{:>4}{:>4}  |{}|{:>3}{:>7} |{:>3}{:>4}{:>5}{:>5}{:>5} |",
        entry.gpu.index,
        entry.gpu_instance.id,
        entry.compute_instance.id,
        device.index,
        usage(memory.map(|memory| (memory.used, memory.total))),
        device.multiprocessors,
        0,
        device.copy_engines,
        device.encoders,
        device.decoders,
        device.ofa,
        device.jpeg,
    ));
    reply.line(format_args!(
        "|{:18}|{}|{:11}|{:23}|",
        "",
        usage(memory.and_then(|memory| memory.bar1)),
        "",
        ""
    ));
    reply.line(MIG_RULE);
}

fn processes(reply: &mut Reply, nvml: &Nvml, selection: &Selection<'_>) {
    reply.line(WHOLE);
    reply.line(format_args!("| {:<88}|", "Processes:"));
    reply.line("|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |");
    reply.line("|        ID   ID                                                               Usage      |");
    reply.line("|=========================================================================================|");
    let mut none = true;
    for gpu in &selection.gpus {
        // Where a process may not see others, there are none for it.
        for process in nvml.processes(&gpu.uuid).unwrap_or_default() {
            none = false;
            let instance =
                |id: Option<u32>| id.map_or_else(|| "N/A".to_owned(), |id| format!("{id:>2} "));
            let kind = match process.kind {
                ProcessKind::Compute => "C",
                ProcessKind::Graphics => "G",
                ProcessKind::Both => "C+G",
            };
            let memory = process.memory_mib.map_or_else(
                || format!("{:<11}", "  N/A"),
                |memory| format!("{memory:>7}MiB "),
            );
            let name = process.name.unwrap_or_else(|| "N/A".to_owned());
            reply.line(format_args!(
                "|{:>5}   {}  {}{:>16}{kind:>7}   {:<36}{memory}|",
                gpu.index,
                instance(process.gpu_instance),
                instance(process.compute_instance),
                process.pid,
                cut_start(&name, PROCESS_NAME_WIDTH),
            ));
        }
    }
    if none {
        reply.line(format_args!("|  {:<87}|", "No running processes found"));
    }
    reply.line(WHOLE);
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn cut_end(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...")
}

/// Of a long path the end says more than the start.
fn cut_start(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(length + 3 - width).collect();
    format!("...{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_where_they_say_least() {
        assert_eq!(
            cut_end("NVIDIA RTX PRO 6000 Blackwell Server Edition", NAME_WIDTH),
            "NVIDIA RTX PRO 6000 Blac..."
        );
        assert_eq!(cut_start("/usr/local/bin/python3", 12), "...n/python3");
        assert_eq!(cut_start("python3", 12), "python3");
    }
}
