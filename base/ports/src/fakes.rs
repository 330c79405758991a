//! Fakes of the ports, for tests and the simulator.
