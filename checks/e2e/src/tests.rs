//! The tests, by what they are about.

mod alone;
mod bad_input;
mod bad_release;
mod commands;
mod container;
mod disk;
mod dockerfile;
mod doctor;
mod four_eyes;
mod kills;
mod leaving;
mod local;
mod lost;
mod new_user;
mod one_file;
mod people;
mod push;
mod registry;
mod road;
mod rollout;
mod said;
mod second_user;
mod secrets;
mod traced;
mod users;
