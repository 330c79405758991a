//! slipway-source
