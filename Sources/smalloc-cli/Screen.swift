// The terminal while a command shows something in place, and is ended by a key.

import Glibc

/// A screen of its own for a command, as editors have it; what was there comes back at the end,
/// whatever ends the command.
enum Screen {
    nonisolated(unsafe) private static var before = termios()
    nonisolated(unsafe) private static var isShown = false
    nonisolated(unsafe) private static var hasKeys = false

    /// Takes the terminal that is standard output, and the keys of that at standard input.
    static func enter() {
        hasKeys = tcgetattr(0, &before) == 0
        show()
        for number in [SIGINT, SIGTERM, SIGHUP, SIGTSTP] {
            var action = sigaction()
            var earlier = sigaction()
            action.__sigaction_handler.sa_handler = { number in
                Screen.leave()
                if number == SIGTSTP {
                    // Until the shell has it go on.
                    raise(SIGSTOP)
                    Screen.show()
                } else {
                    raise(number)
                }
            }
            if number != SIGTSTP {
                action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND) | UInt32(SA_NODEFER))
            }
            sigaction(number, nil, &earlier)
            if earlier.isDefault { sigaction(number, &action, nil) }
        }
    }

    private static func show() {
        if hasKeys {
            var keys = before
            keys.c_lflag &= ~tcflag_t(ICANON | ECHO)
            tcsetattr(0, TCSANOW, &keys)
        }
        isShown = true
        put("\u{1B}[?1049h\u{1B}[?25l")
    }

    /// Gives the terminal back; may be called by a handler of a signal, and more than once.
    static func leave() {
        guard isShown else { return }
        isShown = false
        put("\u{1B}[?25h\u{1B}[?1049l")
        if hasKeys { tcsetattr(0, TCSANOW, &before) }
    }

    /// Without memory of its own: handlers of signals call it.
    private static func put(_ text: StaticString) {
        _ = write(1, text.utf8Start, text.utf8CodeUnitCount)
    }

    /// Lines and columns of the terminal.
    static var size: (lines: Int, columns: Int) {
        var size = winsize()
        guard ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (24, 80)
        }
        return (Int(size.ws_row), Int(size.ws_col))
    }

    /// Waits for a key.
    ///
    /// - Returns: Whether it was one that ends the command: q, or the end of all keys.
    static func isEnded(within seconds: Double) -> Bool {
        let end = monotonicSeconds() + seconds
        while true {
            let left = end - monotonicSeconds()
            guard left > 0 else { return false }
            var waiting = pollfd(fd: hasKeys ? 0 : -1, events: Int16(POLLIN), revents: 0)
            guard poll(&waiting, 1, Int32(left * 1000) + 1) > 0 else { continue }
            var key: UInt8 = 0
            let count = read(0, &key, 1)
            if count == 0 || count > 0 && (key | 0x20) == UInt8(ascii: "q") { return true }
            if count < 0, errno != EINTR { hasKeys = false }
        }
    }
}
