//! `nvidia-smi --query-gpu=FIELD,.. --format=csv[,noheader][,nounits]`.

use nvml::{ComputeMode, Gpu, GpuStatus, Inventory, Nvml};

use crate::arguments::Format;
use crate::exit::INVALID_ARGUMENT;
use crate::reply::Reply;
use crate::selection::Selection;

/// What a field is read from.
struct Row<'a> {
    inventory: &'a Inventory,
    gpu: &'a Gpu,
    status: &'a GpuStatus,
}

/// A field: its names, the first of which heads its column, its unit, and its value.
struct Field {
    names: &'static [&'static str],
    unit: &'static str,
    value: fn(&Row<'_>) -> Option<String>,
}

const fn field(
    names: &'static [&'static str],
    unit: &'static str,
    value: fn(&Row<'_>) -> Option<String>,
) -> Field {
    Field { names, unit, value }
}

/// The values of the selected GPUs, a line each.
pub(crate) fn query(
    nvml: &Nvml,
    inventory: &Inventory,
    selection: &Selection<'_>,
    fields: &str,
    format: Format,
) -> Reply {
    let mut wanted: Vec<&Field> = Vec::new();
    for name in fields
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let Some(field) = FIELDS.iter().find(|field| field.names.contains(&name)) else {
            let text = format!("Field \"{name}\" is not a valid field to query.\n");
            return Reply::new(INVALID_ARGUMENT, &text);
        };
        wanted.push(field);
    }
    let mut reply = Reply::default();
    if format.header {
        reply.line(joined(wanted.iter().map(|field| field.heading())));
    }
    for gpu in &selection.gpus {
        let status = nvml.status(&gpu.uuid);
        let row = Row {
            inventory,
            gpu,
            status: &status,
        };
        reply.line(joined(
            wanted.iter().map(|field| field.text(&row, format.units)),
        ));
    }
    reply
}

fn joined(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(", ")
}

impl Field {
    fn heading(&self) -> String {
        let name = self.names.first().copied().unwrap_or_default();
        if self.unit.is_empty() {
            name.to_owned()
        } else {
            format!("{name} [{}]", self.unit)
        }
    }

    fn text(&self, row: &Row<'_>, units: bool) -> String {
        match (self.value)(row) {
            None => "[N/A]".to_owned(),
            Some(value) if units && !self.unit.is_empty() => format!("{value} {}", self.unit),
            Some(value) => value,
        }
    }
}

fn mode(on: bool) -> String {
    (if on { "Enabled" } else { "Disabled" }).to_owned()
}

fn number<T: std::fmt::Display>(number: Option<T>) -> Option<String> {
    number.map(|number| number.to_string())
}

/// Watts with two digits.
fn watts(milliwatts: Option<u32>) -> Option<String> {
    milliwatts.map(|power| format!("{:.2}", f64::from(power) / 1000.0))
}

/// Bytes as MiB, rounded up: a real H200 shows 616 reserved and 143156 free of 143771.
fn mebibytes(bytes: u64) -> String {
    bytes.div_ceil(1 << 20).to_string()
}

/// Part `n` of a PCI address "00000000:00:06.0", as a number in hexadecimal.
fn pci_part(gpu: &Gpu, part: usize, digits: usize) -> Option<String> {
    let text = gpu.pci_bus_id.split([':', '.']).nth(part)?;
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(format!("0x{number:0digits$X}"))
}

const FIELDS: &[Field] = &[
    field(&["timestamp"], "", |_| {
        Some(
            jiff::Zoned::now()
                .strftime("%Y/%m/%d %H:%M:%S%.3f")
                .to_string(),
        )
    }),
    field(&["driver_version"], "", |row| {
        Some(row.inventory.driver_version.clone())
    }),
    field(&["count"], "", |row| {
        Some((row.inventory.gpus.len() + row.inventory.failed.len()).to_string())
    }),
    field(&["name", "gpu_name"], "", |row| Some(row.gpu.name.clone())),
    field(&["serial", "gpu_serial"], "", |row| row.gpu.serial.clone()),
    field(&["uuid", "gpu_uuid"], "", |row| {
        Some(row.gpu.uuid.to_string())
    }),
    field(&["pci.bus_id", "gpu_bus_id"], "", |row| {
        Some(row.gpu.pci_bus_id.clone())
    }),
    field(&["pci.domain"], "", |row| pci_part(row.gpu, 0, 4)),
    field(&["pci.bus"], "", |row| pci_part(row.gpu, 1, 2)),
    field(&["pci.device"], "", |row| pci_part(row.gpu, 2, 2)),
    field(&["pci.device_id"], "", |row| {
        Some(format!("0x{:08X}", row.gpu.pci_device_id))
    }),
    field(&["index"], "", |row| Some(row.gpu.index.to_string())),
    field(&["fan.speed"], "%", |row| number(row.status.fan)),
    field(&["pstate"], "", |row| {
        row.status
            .performance_state
            .map(|state| format!("P{state}"))
    }),
    field(&["memory.total"], "MiB", |row| {
        row.status.memory.map(|memory| mebibytes(memory.total))
    }),
    field(&["memory.reserved"], "MiB", |row| {
        row.status.memory?.reserved.map(mebibytes)
    }),
    field(&["memory.used"], "MiB", |row| {
        row.status.memory.map(|memory| mebibytes(memory.used))
    }),
    field(&["memory.free"], "MiB", |row| {
        row.status.memory.map(|memory| mebibytes(memory.free))
    }),
    field(&["compute_mode"], "", |row| {
        let mode = match row.status.compute_mode? {
            ComputeMode::Default => "Default",
            ComputeMode::ExclusiveThread => "Exclusive_Thread",
            ComputeMode::Prohibited => "Prohibited",
            ComputeMode::ExclusiveProcess => "Exclusive_Process",
        };
        Some(mode.to_owned())
    }),
    field(&["compute_cap"], "", |row| {
        let (major, minor) = row.gpu.compute_capability;
        Some(format!("{major}.{minor}"))
    }),
    field(&["utilization.gpu"], "%", |row| {
        number(row.status.gpu_utilization)
    }),
    field(&["utilization.memory"], "%", |row| {
        number(row.status.memory_utilization)
    }),
    field(&["ecc.mode.current"], "", |row| {
        row.status.ecc.map(|ecc| mode(ecc.current))
    }),
    field(&["ecc.mode.pending"], "", |row| {
        row.status.ecc.map(|ecc| mode(ecc.pending))
    }),
    field(&["ecc.errors.uncorrected.volatile.total"], "", |row| {
        number(row.status.volatile_uncorrected_errors)
    }),
    field(&["temperature.gpu"], "", |row| {
        number(row.status.temperature)
    }),
    field(&["power.draw"], "W", |row| watts(row.status.power)),
    field(&["power.limit"], "W", |row| watts(row.status.power_limit)),
    field(&["enforced.power.limit"], "W", |row| {
        watts(row.status.power_limit)
    }),
    field(&["clocks.current.graphics", "clocks.gr"], "MHz", |row| {
        number(row.status.graphics_clock)
    }),
    field(&["clocks.current.sm", "clocks.sm"], "MHz", |row| {
        number(row.status.sm_clock)
    }),
    field(&["clocks.current.memory", "clocks.mem"], "MHz", |row| {
        number(row.status.memory_clock)
    }),
    field(&["clocks.current.video", "clocks.video"], "MHz", |row| {
        number(row.status.video_clock)
    }),
    field(&["mig.mode.current"], "", |row| {
        row.gpu.mig.map(|mig| mode(mig.current))
    }),
    field(&["mig.mode.pending"], "", |row| {
        row.gpu.mig.map(|mig| mode(mig.pending))
    }),
    field(&["persistence_mode"], "", |row| {
        row.status.persistence.map(mode)
    }),
    field(&["display_active"], "", |row| {
        row.status.display_active.map(mode)
    }),
    field(&["vbios_version"], "", |row| row.status.vbios.clone()),
];
