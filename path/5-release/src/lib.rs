//! slipway-release
