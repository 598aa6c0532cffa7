//! Where a session computes, and by which operations.

use super::Array;
use crate::{ElementType, Error, Result};
use candle_core::{Device, utils};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// The name of a device, such as `cpu`, `cuda`, `cuda:1` or `metal`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum DeviceName {
    /// The processor, by our own kernels.
    #[default]
    Cpu,
    /// One of NVIDIA's GPUs, counted from 0; needs the feature `cuda`.
    Cuda(usize),
    /// One of Apple's GPUs, counted from 0; needs the feature `metal`.
    Metal(usize),
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, number) = text.split_once(':').unwrap_or((text, "0"));
        match (kind, number.parse()) {
            ("cpu", _) if text == "cpu" => Ok(Self::Cpu),
            ("cuda", Ok(number)) => Ok(Self::Cuda(number)),
            ("metal", Ok(number)) => Ok(Self::Metal(number)),
            _ => Err(Error::invalid(format!(
                "there is no device `{text}`, but cpu, cuda, metal, and cuda:1 and so on"
            ))),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(0) => write!(f, "cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal(0) => write!(f, "metal"),
            Self::Metal(number) => write!(f, "metal:{number}"),
        }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl DeviceName {
    /// Refuses what this build cannot do.
    ///
    /// # Errors
    /// `E0409` names the missing feature of the build.
    pub fn check(self) -> Result<()> {
        let (built, feature) = match self {
            Self::Cpu => return Ok(()),
            Self::Cuda(_) => (utils::cuda_is_available(), "cuda"),
            Self::Metal(_) => (utils::metal_is_available(), "metal"),
        };
        if built {
            return Ok(());
        }
        Err(Error::unsupported(format!("this build cannot compute on `{self}`"))
            .code_is("E0409")
            .hint(format!("build with the feature `{feature}`, or give `device = cpu`")))
    }

    /// Opens the device.
    ///
    /// # Errors
    /// As [`check`](Self::check), and when there is no such device.
    pub fn open(self) -> Result<Backend> {
        self.check()?;
        let device = match self {
            Self::Cpu => return Ok(Backend::cpu()),
            Self::Cuda(number) => Device::new_cuda(number),
            Self::Metal(number) => Device::new_metal(number),
        };
        let device = device.map_err(|error| {
            Error::unsupported(format!("the device `{self}` cannot be opened: {error}"))
                .code_is("E0409")
                .hint("give another one, or `device = cpu`")
        })?;
        Ok(Backend::candle(device))
    }
}

/// Where a session computes, and by which operations.
///
/// What goes into a session and what comes out of it is on the CPU in any case. On a device, floats
/// of 32 bits are moved there and back; other elements stay on the CPU, and so do operators that
/// candle lacks.
#[derive(Debug, Clone)]
pub struct Backend {
    device: Device,
    portable: bool,
}

impl Default for Backend {
    fn default() -> Self {
        Self::cpu()
    }
}

impl Backend {
    /// The CPU, by our own kernels.
    pub fn cpu() -> Self {
        Self { device: Device::Cpu, portable: false }
    }

    /// A device, by candle's own operations. On the CPU they are slow, and what our kernels can be
    /// compared with.
    pub fn candle(device: Device) -> Self {
        Self { device, portable: true }
    }

    /// Does it compute by candle's own operations?
    pub fn is_portable(&self) -> bool {
        self.portable
    }

    /// Are values elsewhere than on the CPU?
    pub(super) fn is_remote(&self) -> bool {
        !self.device.is_cpu()
    }

    /// An array from outside, where the session computes with it; gradients pass.
    pub(super) fn inward(&self, array: &Array) -> Result<Array> {
        match array.element {
            ElementType::F32 => moved(array, &self.device),
            _ => Ok(array.clone()),
        }
    }

    /// An array of the session, on the CPU; gradients pass.
    pub(super) fn outward(&self, array: &Array) -> Result<Array> {
        moved(array, &Device::Cpu)
    }
}

fn moved(array: &Array, device: &Device) -> Result<Array> {
    Ok(Array { tensor: array.tensor.to_device(device)?, element: array.element })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, name) in [
            ("cpu", DeviceName::Cpu),
            ("cuda", DeviceName::Cuda(0)),
            ("cuda:3", DeviceName::Cuda(3)),
            ("metal", DeviceName::Metal(0)),
        ] {
            assert_eq!(text.parse::<DeviceName>().unwrap(), name);
            assert_eq!(name.to_string(), text);
        }
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1", "metal:-1"] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
    }

    /// Whatever the build has, the answer names the device and is no panic.
    #[test]
    fn a_device_that_the_build_lacks_is_refused() {
        assert!(!DeviceName::Cpu.open().unwrap().is_portable());
        for (name, built) in [
            (DeviceName::Cuda(0), cfg!(feature = "cuda")),
            (DeviceName::Metal(0), cfg!(feature = "metal")),
        ] {
            if built {
                continue;
            }
            let error = name.open().unwrap_err();
            assert_eq!(error.code(), "E0409");
            assert!(error.to_string().contains(&name.to_string()), "{error}");
        }
    }
}
