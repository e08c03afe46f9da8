//! `cargo xtask images`: the container images as docker-archive files in `target/images`, made on this machine
//! without a Docker daemon and without a registry.
//!
//! An [`Image`] is a folder in `images/` with a Dockerfile and a script that makes the image's root
//! folder; [`build`] runs the script, and has buildah build the Dockerfile's stage `packed` from that folder. A file
//! beside each archive says from which inputs it was made, so that it is made anew only when they change.

mod build;
mod image;
mod tools;

use std::path::PathBuf;

use clap::Args;

pub(crate) use build::Built;
pub(crate) use image::hex;
use image::{IMAGES, Image};

use crate::step::{Error, release_binary, root};

#[derive(Debug, Default, Args)]
pub(crate) struct Images {
    /// Only these: migpool, cuda-stand-in, busybox, pynvml, pause
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Put this program into the image `migpool` instead of building the release binary (for a debug build, say)
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Build even if no input changed
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Build each twice, from nothing, and fail if the two differ in a byte
    #[arg(long)]
    pub(crate) check: bool,
}

impl Images {
    /// Makes the archives that are not there or not current, and says what they are and how to load them.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let built = self.ensure()?;
        println!();
        for image in &built {
            println!("{image}");
        }
        if let Some(image) = built.first() {
            let tar = image.tar.strip_prefix(root()).unwrap_or(&image.tar);
            println!("\nLoad one, for example {}:", image.name);
            for command in [
                "kind load image-archive",
                "minikube image load",
                "ctr --namespace k8s.io images import",
                "docker load --input",
            ] {
                println!("  {command} {}", tar.display());
            }
        }
        Ok(())
    }

    /// Makes the archives that are not there or not current, and gives all that were asked for.
    pub(crate) fn ensure(&self) -> Result<Vec<Built>, Error> {
        let images = self.images()?;
        // The archives, the packages beside them and apt-get are one chore's at a time.
        let _lock = build::lock()?;
        tools::ensure(&images)?;
        let mut built = Vec::new();
        for image in images {
            let binary = match (&self.binary, image.carries_migpool) {
                (_, false) => None,
                (Some(given), true) => Some(given.clone()),
                (None, true) => Some(release_binary()?),
            };
            if self.check {
                build::check(image, binary.as_deref())?;
            }
            built.push(build::ensure(image, binary.as_deref(), self.rebuild)?);
        }
        Ok(built)
    }

    fn images(&self) -> Result<Vec<&'static Image>, Error> {
        if self.names.is_empty() {
            return Ok(IMAGES.iter().collect());
        }
        let known = || {
            IMAGES
                .iter()
                .map(|image| image.name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        self.names
            .iter()
            .map(|name| {
                IMAGES
                    .iter()
                    .find(|image| image.name == *name)
                    .ok_or_else(|| {
                        Error::Other(format!("there is no image `{name}`: there are {}", known()))
                    })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_those_that_exist() {
        let images = Images {
            names: vec!["migpol".to_owned()],
            ..Images::default()
        };
        let error = images.images().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no image `migpol`: there are migpool, cuda-stand-in, busybox, pynvml, pause"
        );
    }

    #[test]
    fn without_a_name_all_are_made() {
        assert_eq!(
            Images::default().images().unwrap().len(),
            image::IMAGES.len()
        );
    }
}
