//! slipway-image
