//! slipway-jobs
