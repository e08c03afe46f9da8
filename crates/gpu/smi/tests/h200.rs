//! What a real H200 (driver 580.159.04, MIG mode off) printed, against what the simulated one makes us print. Values that
//! live (time, temperature, power, clocks, addresses, UUID, serial) are compared by their place alone.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy knows the tests, not their helpers

mod machine;

use machine::Machine;

fn h200() -> Machine {
    Machine::new("H200-141GB", 1)
}

/// Digits and blanks alike, so that numbers may differ and nothing may move.
fn layout(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_digit() { ' ' } else { c })
        .collect()
}

const LGIP: &str = "\
+-------------------------------------------------------------------------------+
| GPU instance profiles:                                                        |
| GPU   Name               ID    Instances   Memory     P2P    SM    DEC   ENC  |
|                                Free/Total   GiB              CE    JPEG  OFA  |
|===============================================================================|
|   0  MIG 1g.18gb         19     7/7        16.00      No     16     1     0   |
|                                                               1     1     0   |
+-------------------------------------------------------------------------------+
|   0  MIG 1g.18gb+me      20     1/1        16.00      No     16     1     0   |
|                                                               1     1     1   |
+-------------------------------------------------------------------------------+
|   0  MIG 1g.35gb         15     4/4        32.50      No     26     1     0   |
|                                                               1     1     0   |
+-------------------------------------------------------------------------------+
|   0  MIG 2g.35gb         14     3/3        32.50      No     32     2     0   |
|                                                               2     2     0   |
+-------------------------------------------------------------------------------+
|   0  MIG 3g.71gb          9     2/2        69.75      No     60     3     0   |
|                                                               3     3     0   |
+-------------------------------------------------------------------------------+
|   0  MIG 4g.71gb          5     1/1        69.75      No     64     4     0   |
|                                                               4     4     0   |
+-------------------------------------------------------------------------------+
|   0  MIG 7g.141gb         0     1/1        140.00     No     132    7     0   |
|                                                               8     7     1   |
+-------------------------------------------------------------------------------+
";

const LGIPP: &str = "\
GPU  0 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1
GPU  0 Profile ID 20 Placements: {0,1,2,3,4,5,6}:1
GPU  0 Profile ID 15 Placements: {0,2,4,6}:2
GPU  0 Profile ID 14 Placements: {0,2,4}:2
GPU  0 Profile ID  9 Placements: {0,4}:4
GPU  0 Profile ID  5 Placement : {0}:4
GPU  0 Profile ID  0 Placement : {0}:8
";

const SUMMARY: &str = "\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 580.159.04             Driver Version: 580.159.04     CUDA Version: 13.0     |
+-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA H200                    On  |   00000000:00:06.0 Off |                    0 |
| N/A   40C    P0            127W /  700W |       0MiB / 143771MiB |      0%      Default |
|                                         |                        |             Disabled |
+-----------------------------------------+------------------------+----------------------+

+-----------------------------------------------------------------------------------------+
| Processes:                                                                              |
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|  No running processes found                                                             |
+-----------------------------------------------------------------------------------------+
";

/// Commands whose answer has no value that lives: arguments, exit code, text.
const EXACT: &[(&str, u8, &str)] = &[
    ("mig -lgip", 0, LGIP),
    ("mig -lgipp", 0, LGIPP),
    ("mig -lgi", 0, "No MIG-enabled devices found.\n"),
    ("mig -lci", 0, "No MIG-enabled devices found.\n"),
    ("mig -lcip", 0, "No MIG-enabled devices found.\n"),
    ("mig -dgi -i 9", 6, "No devices were found\n"),
    ("mig -lgip -i 5", 6, "No devices were found\n"),
    ("-i 7", 6, "No devices were found\n"),
    (
        "-L -i 0",
        2,
        "ERROR: Option -i is not valid for this command. Please run 'nvidia-smi -h' for help.\n\n",
    ),
    (
        "--query-gpu=index,name,memory.total --format=csv,noheader",
        0,
        "0, NVIDIA H200, 143771 MiB\n",
    ),
    (
        "--query-gpu=nonsense --format=csv",
        2,
        "Field \"nonsense\" is not a valid field to query.\n\n",
    ),
    ("--query-gpu=index", 0, "index\n0\n"),
    (
        "--query-gpu=index --format=xml",
        2,
        "Format modifier is not recognized.\n",
    ),
    (
        "--bogus",
        255,
        "ERROR: Option --bogus is not recognized. Please run 'nvidia-smi -h'.\n\n",
    ),
    ("mig --bogus", 2, "Option \"--bogus\" is not recognized.\n"),
    ("--query-gpu=", 0, "\n\n"),
    (
        "--query-gpu=index,,name --format=csv",
        0,
        "index, name\n0, NVIDIA H200\n",
    ),
    ("--query-gpu=index --format=noheader -i 0,7", 0, "0\n"),
    ("-i GPU-x", 6, "No devices were found\n"),
    (
        "foo",
        255,
        "ERROR: Option foo is not recognized. Please run 'nvidia-smi -h'.\n\n",
    ),
    (
        "--format=csv",
        255,
        "ERROR: Option --format=csv is not recognized. Please run 'nvidia-smi -h'.\n\n",
    ),
    (
        "mig -lgip extra",
        2,
        "Option \"extra\" is not recognized.\n",
    ),
    ("mig -lgi -C", 0, "No MIG-enabled devices found.\n"),
    (
        "--version",
        0,
        "NVIDIA-SMI version  : 580.159.04\nNVML version        : 580.159\nDRIVER version      : 580.159.04\n\
         CUDA Version        : 13.0\n",
    ),
];

#[test]
fn answers_without_live_values_are_those_of_the_real_board() {
    let machine = h200();
    for (arguments, code, text) in EXACT {
        assert_eq!(
            machine.run(arguments),
            ((*text).to_owned(), *code),
            "nvidia-smi {arguments}"
        );
    }
}

#[test]
fn the_list_is_that_of_the_real_board_but_for_the_uuid() {
    let machine = h200();
    let real = "GPU 0: NVIDIA H200 (UUID: GPU-d3b4fd7f-ec8a-97a0-22b1-7c0a278b9ee2)\n";
    let (text, code) = machine.run("-L");
    assert_eq!((text.len(), code), (real.len(), 0), "{text}");
    assert!(
        text.starts_with("GPU 0: NVIDIA H200 (UUID: GPU-") && text.ends_with(")\n"),
        "{text}"
    );
    assert_eq!(machine.run("--list-gpus"), (text, 0));
}

#[test]
fn the_summary_has_everything_where_the_real_one_has_it() {
    let (text, code) = h200().run("");
    assert_eq!(code, 0);
    let (time, table) = text.split_once('\n').unwrap();
    assert_eq!(
        time.len(),
        "Tue Nov 24 01:15:46 2026       ".len(),
        "{time}"
    );
    assert_eq!(
        layout(table),
        layout(SUMMARY),
        "\n{table}\nagainst\n{SUMMARY}"
    );
}

#[test]
fn a_query_heads_and_words_its_values_as_the_real_one() {
    let fields = "index,name,uuid,pci.bus_id,memory.total,memory.used,memory.free,mig.mode.current,mig.mode.pending,\
        driver_version,temperature.gpu,power.draw,power.limit,utilization.gpu,utilization.memory,compute_cap,serial,\
        pstate,compute_mode,persistence_mode,clocks.sm,clocks.mem,ecc.mode.current,fan.speed,count,vbios_version,\
        display_active,gpu_bus_id";
    let heading = "index, name, uuid, pci.bus_id, memory.total [MiB], memory.used [MiB], memory.free [MiB], \
        mig.mode.current, mig.mode.pending, driver_version, temperature.gpu, power.draw [W], power.limit [W], \
        utilization.gpu [%], utilization.memory [%], compute_cap, serial, pstate, compute_mode, persistence_mode, \
        clocks.current.sm [MHz], clocks.current.memory [MHz], ecc.mode.current, fan.speed [%], count, vbios_version, \
        display_active, pci.bus_id";
    let real = "0, NVIDIA H200, GPU-d3b4fd7f-ec8a-97a0-22b1-7c0a278b9ee2, 00000000:00:06.0, 143771 MiB, 0 MiB, \
        143156 MiB, Disabled, Disabled, 580.159.04, 40, 127.86 W, 700.00 W, 0 %, 0 %, 9.0, 1653924042610, P0, Default, \
        Enabled, 405 MHz, 3201 MHz, Enabled, [N/A], 1, 96.00.A5.00.1A, Disabled, 00000000:00:06.0";
    let (text, code) = h200().run(&format!("--query-gpu={fields} --format=csv"));
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&heading));
    let values: Vec<&str> = lines.get(1).unwrap().split(", ").collect();
    let expected: Vec<&str> = real.split(", ").collect();
    assert_eq!(values.len(), expected.len());
    // What is another machine's own, or lives: UUID, addresses, temperature, power, serial, clock, BIOS.
    let own = [2, 3, 10, 11, 16, 20, 25, 27];
    for (place, (value, expected)) in values.iter().zip(&expected).enumerate() {
        if own.contains(&place) {
            let unit = |text: &str| text.split_once(' ').map(|(_, unit)| unit.to_owned());
            assert_eq!(unit(value), unit(expected), "{value} against {expected}");
        } else {
            assert_eq!(value, expected, "field {place}");
        }
    }
}

#[test]
fn without_units_a_query_has_bare_numbers() {
    let (text, code) =
        h200().run("--query-gpu=index,memory.total,power.limit --format=csv,noheader,nounits");
    assert_eq!((text.as_str(), code), ("0, 143771, 700.00\n", 0));
}
