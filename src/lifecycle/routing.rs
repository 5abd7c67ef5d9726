//! Which device takes which work.

/// What a job computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// A search on the noise schedule alone: milliseconds to minutes of CPU.
    Proxy,
    /// A search with the model in the loop: minutes of denoiser evaluations.
    Calibration,
}

impl Work {
    pub const ALL: [Self; 2] = [Self::Proxy, Self::Calibration];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Calibration => "calibration",
        }
    }

    /// The device this work is meant for.
    fn preferred(self) -> DeviceKind {
        match self {
            Self::Proxy => DeviceKind::Cpu,
            Self::Calibration => DeviceKind::Gpu,
        }
    }
}

/// What a worker computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    Cpu,
    Gpu,
}

impl DeviceKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

impl std::str::FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            other => Err(format!("unknown device `{other}`: use cpu or gpu")),
        }
    }
}

/// Whether a worker with this device takes this work, given the devices of all live workers: the device it is meant for
/// does, and any does where no live worker has that one.
#[must_use]
pub fn takes(device: DeviceKind, work: Work, live: &[DeviceKind]) -> bool {
    let preferred = work.preferred();
    device == preferred || !live.contains(&preferred)
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeviceKind::{Cpu, Gpu};
    use Work::{Calibration, Proxy};

    #[test]
    fn work_goes_to_its_device_and_waits_for_none_that_is_not_there() {
        assert!(takes(Cpu, Proxy, &[Cpu, Gpu]) && takes(Gpu, Calibration, &[Cpu, Gpu]));
        assert!(!takes(Gpu, Proxy, &[Cpu, Gpu]) && !takes(Cpu, Calibration, &[Cpu, Gpu]));
        assert!(takes(Cpu, Calibration, &[Cpu]) && takes(Gpu, Proxy, &[Gpu]));
    }
}
