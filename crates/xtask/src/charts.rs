//! `cargo xtask charts`: the charts packed into a repository that helm can use, the same bytes each time.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::step::{Error, root, target_dir};

/// The time of everything in a package: what is packed decides its bytes, not when.
const TIME: &str = "1980-01-01T00:00:00Z";
const SECONDS: u64 = 315_532_800;

#[derive(Debug, Args)]
pub(crate) struct Charts {
    /// Where the repository goes [default: target/charts]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// What helm's index repeats of a chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Chart {
    api_version: String,
    name: String,
    description: String,
    #[serde(rename = "type")]
    kind: String,
    version: String,
    app_version: String,
    kube_version: String,
    keywords: Vec<String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(flatten)]
    chart: Chart,
    created: &'static str,
    digest: String,
    urls: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    api_version: &'static str,
    entries: BTreeMap<String, Vec<Entry>>,
    generated: &'static str,
}

impl Charts {
    /// Packs every chart of `charts/`.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let output = self
            .output
            .clone()
            .unwrap_or_else(|| target_dir().join("charts"));
        for package in pack_all(&root().join("charts"), &output)? {
            println!("{}", package.display());
        }
        println!("{}", output.join("index.yaml").display());
        Ok(())
    }
}

/// Packs every chart of a folder into another, with an index; what was packed there before goes. Gives the packages.
fn pack_all(charts: &Path, output: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::create_dir_all(output)?;
    for old in sorted(output)? {
        if old.extension().is_some_and(|extension| extension == "tgz") {
            fs::remove_file(old)?;
        }
    }
    let mut packages = Vec::new();
    let mut entries = BTreeMap::new();
    for folder in sorted(charts)? {
        let chart = read(&folder)?;
        let bytes = pack(&folder, &chart)?;
        let file = format!("{}-{}.tgz", chart.name, chart.version);
        write_whole(&output.join(&file), &bytes)?;
        packages.push(output.join(&file));
        let digest = Sha256::digest(&bytes);
        let entry = Entry {
            created: TIME,
            digest: crate::images::hex(&digest),
            urls: vec![file],
            chart: chart.clone(),
        };
        entries.insert(chart.name, vec![entry]);
    }
    let index = Index {
        api_version: "v1",
        entries,
        generated: TIME,
    };
    let text = serde_saphyr::to_string(&index)
        .map_err(|error| Error::Other(format!("cannot write the index: {error}")))?;
    write_whole(&output.join("index.yaml"), text.as_bytes())?;
    Ok(packages)
}

/// A chart's `Chart.yaml`, whose name must be its folder's and whose versions must be the workspace's.
fn read(folder: &Path) -> Result<Chart, Error> {
    let file = folder.join("Chart.yaml");
    let refuse = |reason: String| Error::Other(format!("{}: {reason}", file.display()));
    let text = fs::read_to_string(&file).map_err(|error| refuse(error.to_string()))?;
    let chart: Chart = serde_saphyr::from_str(&text)
        .map_err(|error| refuse(error.without_snippet().to_string()))?;
    if folder.file_name().is_none_or(|name| name != &*chart.name) {
        return Err(refuse(format!(
            "the chart is called {}, unlike its folder",
            chart.name
        )));
    }
    let version = env!("CARGO_PKG_VERSION");
    if chart.version != version || chart.app_version != version {
        return Err(refuse(format!(
            "version {} and appVersion {} must both be the workspace's, {version}",
            chart.version, chart.app_version
        )));
    }
    Ok(chart)
}

/// The package: `Chart.yaml` first, then the other files in the order of their names.
fn pack(folder: &Path, chart: &Chart) -> Result<Vec<u8>, Error> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort_by_key(|file| (!file.ends_with("Chart.yaml"), file.clone()));
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    let mut archive = tar::Builder::new(gzip);
    for file in files {
        let inside = file.strip_prefix(folder).unwrap_or(&file);
        let bytes = fs::read(&file)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(SECONDS);
        archive.append_data(&mut header, Path::new(&chart.name).join(inside), &*bytes)?;
    }
    Ok(archive.into_inner()?.finish()?)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for path in sorted(folder)? {
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder)
        .map_err(|error| Error::Other(format!("cannot read {}: {error}", folder.display())))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// Writes beside the file and moves it there, for whoever reads it meanwhile.
fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut beside = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)?;
    beside.write_all(bytes)?;
    beside.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
