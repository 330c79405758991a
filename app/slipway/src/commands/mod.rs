//! The commands, a file per family; each is thin: ask, print, exit.

pub mod acts;
pub mod ask;
pub mod backup;
pub mod demo;
pub mod doctor;
pub mod front;
pub mod image_import;
pub mod init;
pub mod lint;
pub mod list;
pub mod local;
pub mod open;
pub mod parts;
pub mod plan;
pub mod push;
pub mod secret;
pub mod supervise;
pub mod token;
pub mod up;
pub mod watch;
