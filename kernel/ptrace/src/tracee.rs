//! The state of a tracee: between its stops, and in them.

use crate::{Call, Event, Kind, Options, Stop};
use abi::{Errno, Result};

/// How it came to have a tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// PTRACE_TRACEME, PTRACE_ATTACH: a SIGSTOP is its first stop.
    Stopping,
    /// PTRACE_SEIZE: it runs on.
    Seizing,
}

/// How far a tracee goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// To the next signal or event (PTRACE_CONT).
    #[default]
    Cont,
    /// To the next system call's begin or end (PTRACE_SYSCALL).
    Syscall,
    /// To the next system call's begin, which is all that becomes of that call (PTRACE_SYSEMU).
    Emulate,
    /// By one instruction (PTRACE_SINGLESTEP).
    Step,
    /// By one instruction, or to a system call, of which nothing becomes (PTRACE_SYSEMU_SINGLESTEP).
    EmulateStep,
}

impl Mode {
    /// Stops where a system call begins.
    pub fn stops_at_entry(self) -> bool {
        matches!(self, Self::Syscall | Self::Emulate | Self::EmulateStep)
    }

    /// Nothing becomes of a system call at whose begin it stopped.
    pub fn skips_calls(self) -> bool {
        matches!(self, Self::Emulate | Self::EmulateStep)
    }

    /// Goes by one instruction.
    pub fn steps(self) -> bool {
        matches!(self, Self::Step | Self::EmulateStep)
    }

    /// Has something to say at the end of a system call that is carried out.
    pub fn looks_at_exit(self) -> bool {
        matches!(self, Self::Syscall | Self::Step)
    }
}

/// A traced task's state; `I` is its kernel's `siginfo_t`.
#[derive(Debug)]
pub struct Tracee<I> {
    attach: Attach,
    pub options: Options,
    mode: Mode,
    stop: Option<Stop<I>>,
    /// PTRACE_LISTEN: as good as not traced until something happens.
    listening: bool,
    /// A trap is due: PTRACE_INTERRUPT, a stop of the group when it got its tracer, or its birth.
    trap: bool,
    /// The group was stopped or let go on since its last trap that told of that.
    notify: bool,
    /// What its tracer made of the signal, or gives it, at the end of a stop.
    signal: i32,
    /// What that signal tells, if the stop was one for it.
    info: Option<I>,
}

impl<I> Tracee<I> {
    /// A task that has a tracer from now on.
    pub fn new(attach: Attach, options: Options) -> Self {
        Self {
            attach,
            options,
            mode: Mode::Cont,
            stop: None,
            listening: false,
            trap: false,
            notify: false,
            signal: 0,
            info: None,
        }
    }

    /// The state of a child that its tracee made and its tracer gets.
    pub fn of_child(&self) -> Self {
        let mut child = Self::new(self.attach, self.options);
        child.trap = self.is_seized();
        child
    }

    pub fn is_seized(&self) -> bool {
        self.attach == Attach::Seizing
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The stop that it is in, requests allowed or not.
    pub fn stop(&self) -> Option<&Stop<I>> {
        self.stop.as_ref()
    }

    /// The stop in which its tracer may look into it. ESRCH while it runs or listens.
    pub fn stopped(&mut self) -> Result<&mut Stop<I>> {
        if self.listening {
            return Err(Errno::ESRCH);
        }
        self.stop.as_mut().ok_or(Errno::ESRCH)
    }

    /// The tracee wants to hear of `event`, or is to.
    pub fn wants(&self, event: Event) -> bool {
        self.options.wants(event)
    }

    /// How the tracee stops at a system call.
    pub fn call_stop(&self, at: Call) -> Kind {
        Kind::Call { at, marked: self.options.marks_calls() }
    }

    /// The stop that follows when its group is stopped by `signal`.
    pub fn group_stop(&self, signal: i32) -> Kind {
        Kind::Group { signal, seized: self.is_seized() }
    }

    /// The trap that is due, with the group stopped by `group` (0: not).
    pub fn trap_stop(&self, group: i32) -> Kind {
        match group {
            0 if self.is_seized() => Kind::Interrupt,
            // It was stopped when it was attached to, and let go on meanwhile: as if by a signal.
            0 => Kind::Group { signal: 19, seized: false },
            signal => self.group_stop(signal),
        }
    }

    /// A trap is due before user mode.
    pub fn trap_is_due(&self) -> bool {
        self.trap || self.notify
    }

    /// Has a trap come, whatever else does; true if it is to be woken for that, out of the stop in
    /// which it listens.
    pub fn ask_trap(&mut self) -> bool {
        self.trap = true;
        self.listening
    }

    /// PTRACE_INTERRUPT: [`Tracee::ask_trap`] of one that was seized. EIO.
    pub fn interrupt(&mut self) -> Result<bool> {
        if self.is_seized() { Ok(self.ask_trap()) } else { Err(Errno::EIO) }
    }

    /// Its group was stopped or let go on: what was seized tells. True if it is to be woken out of
    /// the stop in which it listens.
    pub fn group_changed(&mut self) -> bool {
        if !self.is_seized() {
            return false;
        }
        self.notify = true;
        self.listening
    }

    /// It stands still now. Any stop serves for a trap that was due; one for the group tells all
    /// that there is to tell about that.
    pub fn enter(&mut self, stop: Stop<I>) {
        self.trap = false;
        if stop.kind.is_event_stop() {
            self.notify = false;
        }
        self.signal = 0;
        self.info = None;
        self.listening = false;
        self.stop = Some(stop);
    }

    /// PTRACE_CONT and its kin: ends the stop. ESRCH when there is none; EIO for what is no signal.
    pub fn resume(&mut self, mode: Mode, signal: u64) -> Result<()> {
        self.stopped()?;
        let signal = checked_signal(signal)?;
        self.mode = mode;
        self.let_go(signal);
        Ok(())
    }

    /// Ends the stop, if there is one, for good (PTRACE_DETACH, or the tracer's end).
    pub fn let_go(&mut self, signal: i32) {
        self.listening = false;
        if let Some(stop) = self.stop.take() {
            self.signal = signal;
            self.info = stop.info;
        }
    }

    /// PTRACE_LISTEN: the stop goes on, but what comes ends it. EIO where that cannot be; else
    /// whether something came already, so that it ends at once.
    pub fn listen(&mut self) -> Result<bool> {
        let kind = self.stopped()?.kind;
        if !self.is_seized() || !kind.is_event_stop() {
            return Err(Errno::EIO);
        }
        self.listening = true;
        Ok(self.trap_is_due())
    }

    /// The tracer ends. What it was not told of yet comes as if it had never been there: the signal that
    /// the tracee stopped for.
    pub fn abandon(&mut self) {
        let unseen = self.stop.as_ref().filter(|stop| !stop.seen).map(|stop| stop.kind);
        self.let_go(unseen.map_or(0, Kind::unseen));
    }

    /// Ends the stop for another reason than its tracer's will: death, or that it listened and was
    /// woken.
    pub fn break_off(&mut self) {
        self.let_go(0);
    }

    /// It stands still until it is let go on, or woken.
    pub fn stands(&self) -> bool {
        self.stop.is_some()
    }

    /// It listens: whoever has news may wake it.
    pub fn listens(&self) -> bool {
        self.listening
    }

    /// The signal with which the last stop ended; 0 for none.
    pub fn take_signal(&mut self) -> i32 {
        core::mem::take(&mut self.signal)
    }

    /// What the signal of that stop tells, as the tracer left it.
    pub fn take_info(&mut self) -> Option<I> {
        self.info.take()
    }

    /// What wait(2) has to report: the code of the stop, once unless `keep`.
    pub fn report(&mut self, keep: bool) -> Option<i32> {
        if self.listening {
            return None;
        }
        let stop = self.stop.as_mut().filter(|stop| !stop.seen)?;
        stop.seen = !keep;
        Some(stop.kind.code())
    }
}

/// A signal as requests pass it, 0 for none: EIO for another number.
pub fn checked_signal(data: u64) -> Result<i32> {
    if data <= 64 { Ok(data as i32) } else { Err(Errno::EIO) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seized() -> Tracee<()> {
        Tracee::new(Attach::Seizing, Options::default())
    }

    fn signal_stop(signal: i32) -> Stop<()> {
        Stop::new(Kind::Signal(signal), 0, Some(()))
    }

    #[test]
    fn a_stop_is_reported_once_and_ends_with_the_tracers_signal() {
        let mut tracee: Tracee<()> = Tracee::new(Attach::Stopping, Options::default());
        assert_eq!(tracee.resume(Mode::Cont, 0), Err(Errno::ESRCH));
        tracee.enter(signal_stop(10));
        assert_eq!(tracee.report(true), Some(10), "WNOWAIT leaves it");
        assert_eq!(tracee.report(false), Some(10));
        assert_eq!(tracee.report(false), None);
        assert_eq!(tracee.resume(Mode::Cont, 65), Err(Errno::EIO));
        assert!(tracee.stands(), "a refused request changes nothing");
        assert_eq!(tracee.resume(Mode::Step, 12), Ok(()));
        assert_eq!((tracee.take_signal(), tracee.take_signal()), (12, 0));
        assert!(tracee.mode().steps() && !tracee.stands());
    }

    #[test]
    fn a_tracers_end_leaves_what_it_has_not_seen() {
        let mut tracee = seized();
        tracee.enter(signal_stop(15));
        tracee.abandon();
        assert_eq!(tracee.take_signal(), 15);
        tracee.enter(signal_stop(15));
        assert_eq!(tracee.report(false), Some(15));
        tracee.abandon();
        assert_eq!(tracee.take_signal(), 0);
        tracee.enter(Stop::new(Kind::Call { at: Call::Exit, marked: true }, 0, None));
        tracee.abandon();
        assert_eq!(tracee.take_signal(), 0, "what is no signal is none");
    }

    #[test]
    fn codes_are_those_of_wait() {
        let trap = 5;
        for (kind, code) in [
            (Kind::Signal(11), 11),
            (Kind::Call { at: Call::Entry, marked: false }, trap),
            (Kind::Call { at: Call::Exit, marked: true }, trap | 0x80),
            (Kind::Event(Event::Exec), trap | 4 << 8),
            (Kind::Group { signal: 19, seized: false }, 19),
            (Kind::Group { signal: 20, seized: true }, 20 | 128 << 8),
            (Kind::Interrupt, trap | 128 << 8),
        ] {
            assert_eq!(kind.code(), code, "{kind:?}");
        }
    }

    #[test]
    fn one_trap_at_least_follows_an_interrupt() {
        let mut tracee = seized();
        assert_eq!(tracee.interrupt(), Ok(false));
        assert!(tracee.trap_is_due());
        tracee.enter(signal_stop(2));
        assert!(!tracee.trap_is_due(), "another stop serves as well");
        assert_eq!(tracee.interrupt(), Ok(false));
        assert_eq!(tracee.resume(Mode::Cont, 0), Ok(()));
        assert!(tracee.trap_is_due(), "asked for in a stop it comes after it");
        let mut attached: Tracee<()> = Tracee::new(Attach::Stopping, Options::default());
        assert_eq!(attached.interrupt(), Err(Errno::EIO));
    }

    #[test]
    fn who_listens_is_woken_by_news_only() {
        let mut tracee = seized();
        tracee.enter(signal_stop(19));
        assert_eq!(tracee.listen(), Err(Errno::EIO), "a signal is no stop of the group");
        assert_eq!(tracee.resume(Mode::Cont, 19), Ok(()));
        let group = tracee.trap_stop(19);
        assert_eq!(group.code(), 19 | 128 << 8);
        tracee.enter(Stop::new(group, 0, Some(())));
        assert!(!tracee.group_changed(), "not yet listening: it is told at the end of the stop");
        assert_eq!(tracee.listen(), Ok(true), "something came before");
        tracee.break_off();
        tracee.enter(Stop::new(tracee.trap_stop(19), 0, Some(())));
        assert_eq!(tracee.report(false), Some(19 | 128 << 8));
        assert_eq!(tracee.listen(), Ok(false));
        assert_eq!(tracee.report(false), None);
        assert_eq!(tracee.resume(Mode::Cont, 0), Err(Errno::ESRCH), "no requests meanwhile");
        assert!(tracee.group_changed());
        tracee.break_off();
        assert_eq!(tracee.trap_stop(0), Kind::Interrupt);
    }

    #[test]
    fn a_child_of_a_seized_tracee_is_born_with_a_trap() {
        let options = Options::new(1 << 1 | 1).expect("options");
        let parent: Tracee<()> = Tracee::new(Attach::Seizing, options);
        let child = parent.of_child();
        assert!(child.trap_is_due() && child.options == options);
        let parent: Tracee<()> = Tracee::new(Attach::Stopping, options);
        assert!(!parent.of_child().trap_is_due(), "a SIGSTOP is sent instead");
    }

    #[test]
    fn options_are_known_or_refused() {
        assert!(Options::new(0x1000ff).is_ok_and(|o| o.wants(Event::Exit) && o.kills_at_exit()));
        assert_eq!(Options::new(1 << 8), Err(Errno::EINVAL));
        assert_eq!(Options::new(1 << 21), Err(Errno::EINVAL));
        assert!(Options::are_known(1 << 21) && !Options::are_known(1 << 32));
        assert!(!Options::default().wants(Event::Stop));
    }
}
