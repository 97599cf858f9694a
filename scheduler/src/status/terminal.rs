//! The screen's terminal: keys, sizes, and a thread that looks, so that a filesystem which does not answer keeps
//! nobody from leaving.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use shared::cli::{Format, print, redirect_logs};
use shared::env;
use shared::exit::Code;
use shared::signal::Warning;
use shared::wording::{about, one_line};

use super::Status;
use super::looker::{INTERVAL, Looker, listen};
use super::screen::{View, draw};

/// How long a key may wait for its effect.
const PATIENCE: Duration = Duration::from_millis(100);
/// Without news for so long, something hangs.
const LONG: Duration = Duration::from_secs(15);

/// Draws until the search is finished, somebody leaves, or a signal comes.
pub(super) fn run(mut looker: Looker) -> Result<Code> {
    let warning = listen()?;
    let (sender, news) = sync_channel(1);
    // Not waited for: a look may hang for as long as a network filesystem does.
    std::thread::spawn(move || {
        while sender.send(looker.look_again()).is_ok() {
            std::thread::sleep(INTERVAL);
        }
    });
    let Some(first) = first(&news, &warning)? else {
        return Ok(Code::Done);
    };
    let last = match first.phase {
        "finished" => first,
        _ => watch(first, &news, &warning)?,
    };
    if last.phase == "finished" {
        // It stays where the screen has been.
        print(&last.text(Format::Table)?)?;
    }
    Ok(Code::Done)
}

/// The first look, or none after a signal; the terminal is not touched before.
fn first(news: &Receiver<Result<Status>>, warning: &Warning) -> Result<Option<Status>> {
    while warning.received().is_none() {
        match news.recv_timeout(PATIENCE) {
            Ok(status) => return status.map(Some),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that looks has ended"),
        }
    }
    Ok(None)
}

/// The terminal as a screen; dropping it gives it back. A panic does so too, before its message.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self> {
        Ok(Self(
            ratatui::try_init().context("cannot draw on the terminal")?,
        ))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no order.
        let _gone = ratatui::try_restore();
    }
}

/// Draws; returns the last status.
fn watch(mut status: Status, news: &Receiver<Result<Status>>, warning: &Warning) -> Result<Status> {
    let log = last_line_of_log();
    let mut screen = Screen::open()?;
    let mut view = View {
        is_coloured: env::NO_COLOR.get().is_none(),
        ..View::default()
    };
    let mut heard = Instant::now();
    let mut problem: Option<String> = None;
    let mut is_old = true;
    let mut page = 0;
    while warning.received().is_none() && status.phase != "finished" {
        match news.try_recv() {
            Ok(Ok(newer)) => {
                (status, heard, problem) = (newer, Instant::now(), None);
                is_old = true;
            }
            Ok(Err(error)) => (heard, problem) = (Instant::now(), Some(format!("{error:#}"))),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => bail!("the thread that looks has ended"),
        }
        let logged = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let silence = too_long(heard.elapsed());
        let notice = silence.or_else(|| problem.clone()).or_else(logged);
        is_old |= notice != view.notice;
        view.notice = notice;
        // Over a slow line, what does not change costs nothing.
        if is_old {
            screen.0.draw(|frame| {
                let shown = draw(frame, &status, &view);
                view.scroll = view.scroll.min(shown.most);
                page = shown.page;
            })?;
        }
        is_old = event::poll(PATIENCE)?;
        if is_old && heed(&event::read()?, &mut view, page) {
            break;
        }
    }
    Ok(status)
}

/// What to say when nothing has been heard for some time.
fn too_long(silence: Duration) -> Option<String> {
    let seconds = silence.as_secs_f64().floor();
    let message = || {
        format!(
            "no answer from the filesystem or SLURM for {}",
            about(seconds)
        )
    };
    (silence > LONG).then(message)
}

/// Where the newest line of the log is: on the screen there is room for no more.
fn last_line_of_log() -> Arc<Mutex<Option<String>>> {
    let last = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&last);
    redirect_logs(move |line| {
        let line = one_line(line.trim_end());
        *sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    });
    last
}

/// Does what a key asks for; whether that is to leave.
fn heed(event: &Event, view: &mut View, page: usize) -> bool {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press | KeyEventKind::Repeat,
        ..
    }) = event
    else {
        return false;
    };
    let is_control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if is_control => return true,
        KeyCode::Down | KeyCode::Char('j') => view.scroll = view.scroll.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => view.scroll = view.scroll.saturating_sub(1),
        KeyCode::PageDown | KeyCode::Char(' ') => {
            view.scroll = view.scroll.saturating_add(page.max(1));
        }
        KeyCode::PageUp => view.scroll = view.scroll.saturating_sub(page.max(1)),
        KeyCode::Home | KeyCode::Char('g') => view.scroll = 0,
        KeyCode::End | KeyCode::Char('G') => view.scroll = usize::MAX,
        _ => {}
    }
    false
}

#[cfg(test)]
#[path = "../../tests/pty/mod.rs"]
mod pty;

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, modifiers: KeyModifiers, view: &mut View) -> bool {
        heed(&Event::Key(KeyEvent::new(code, modifiers)), view, 10)
    }

    #[test]
    fn keys_scroll_and_leave() {
        let mut view = View::default();
        let none = KeyModifiers::NONE;
        for (code, scroll) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::Char('j'), 2),
            (KeyCode::PageDown, 12),
            (KeyCode::Char('k'), 11),
            (KeyCode::PageUp, 1),
            (KeyCode::End, usize::MAX),
            (KeyCode::Down, usize::MAX),
            (KeyCode::Home, 0),
            (KeyCode::Char('c'), 0),
        ] {
            assert!(!press(code, none, &mut view));
            assert_eq!(view.scroll, scroll, "{code:?}");
        }
        assert!(press(KeyCode::Char('q'), none, &mut view));
        assert!(press(KeyCode::Esc, none, &mut view));
        assert!(press(KeyCode::Char('c'), KeyModifiers::CONTROL, &mut view));
        assert!(!heed(&Event::Resize(80, 24), &mut view, 10));
    }

    /// Acts as a program that has a bug, if the test below has started it.
    #[test]
    fn act_with_a_bug() {
        if std::env::args().any(|argument| argument == "on-a-terminal") {
            let mut screen = Screen::open().unwrap();
            screen.0.draw(|_| ()).unwrap(); // hides the cursor
            panic!("a bug at work");
        }
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_what_happened() {
        let this = std::env::current_exe().unwrap();
        let test = "status::terminal::tests::act_with_a_bug";
        let arguments = ["--exact", "--nocapture", test, "on-a-terminal"];
        let mut terminal = pty::OnTerminal::start(&this, &arguments);
        assert!(!terminal.end().success());
        terminal.check_restored();
        let said = terminal.said();
        assert!(
            said.find("\u{1b}[?1049h") < said.find("\u{1b}[?1049l"),
            "{said:?}"
        );
        assert!(
            said.find("\u{1b}[?1049l") < said.find("a bug at"),
            "{said:?}"
        );
    }
}
