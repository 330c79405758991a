//! slipway-feedback
