//! Why a command ends, as an exit code.

use std::fmt;
use std::process::ExitCode;

use floodgate_loadtest::buyers::CrowdError;
use floodgate_loadtest::gateway::GatewayError;
use floodgate_loadtest::ops::OpsError;
use floodgate_loadtest::oracle::OracleError;

/// An end that is not a success.
#[derive(Debug)]
pub enum Failure {
    /// 1: something went wrong.
    Failed(String),
    /// 3: a promise was broken.
    Broken(String),
    /// 4: a server cannot be reached.
    Unavailable(String),
}

impl Failure {
    /// Something went wrong.
    pub fn failed(cause: impl fmt::Display) -> Self {
        Self::Failed(cause.to_string())
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::Broken(_) => ExitCode::from(3),
            Self::Unavailable(_) => ExitCode::from(4),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(cause) | Self::Broken(cause) | Self::Unavailable(cause) => {
                f.write_str(cause)
            }
        }
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        match error {
            OpsError::Fault(..) => Self::Unavailable(error.to_string()),
            OpsError::Answer { .. } | OpsError::Unreadable(..) => Self::failed(error),
        }
    }
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Ops(error) => error.into(),
            GatewayError::Io(..) | GatewayError::Ended(..) | GatewayError::NotReady(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl From<CrowdError> for Failure {
    fn from(error: CrowdError) -> Self {
        Self::failed(error)
    }
}

impl From<OracleError> for Failure {
    fn from(error: OracleError) -> Self {
        match error {
            OracleError::Ops(error) => error.into(),
            OracleError::Books(_) | OracleError::NotDrained { .. } | OracleError::Unsteady => {
                Self::failed(error)
            }
        }
    }
}
