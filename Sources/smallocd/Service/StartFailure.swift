// Why the daemon does not start, or why it ends without having started: one line, one exit code.

import Glibc

/// An end before the beginning: a failure, or the answer to `--help`, `--version`,
/// `--check-config`.
struct StartFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// One line, or the text that was asked for.
    let message: String
    /// 0 for an answer; else one of sysexits.h, told in `--help`.
    let exitCode: Int32

    var description: String { message }

    /// What was asked for, on standard output, with exit code 0.
    static func answer(_ text: String) -> StartFailure {
        StartFailure(message: text, exitCode: 0)
    }

    /// A wrong setting in the file, the environment or a value of an option: EX_CONFIG, 78.
    static func configuration(_ message: String) -> StartFailure {
        StartFailure(message: message, exitCode: 78)
    }

    /// Another process has the address: EX_UNAVAILABLE, 69.
    static func unavailable(_ message: String) -> StartFailure {
        StartFailure(message: message, exitCode: 69)
    }

    /// The system refused something: EX_OSERR, 71.
    static func system(_ message: String) -> StartFailure {
        StartFailure(message: message, exitCode: 71)
    }

    /// Prints the message where it belongs and ends the process.
    func leave() -> Never {
        let isAnswer = exitCode == 0
        // The parser's messages have their own "Error: " and usage; failures of ours get the name.
        let text = isAnswer || exitCode == 64 ? message : "smallocd: \(singleLine(message))"
        writeAll(text + "\n", to: isAnswer ? 1 : 2)
        exit(exitCode)
    }
}

/// Writes a text, whole if the descriptor takes it; what can't be written is lost, as there is
/// nowhere left to say so.
func writeAll(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
        var rest = UnsafeRawBufferPointer(bytes)
        while !rest.isEmpty {
            let count = write(descriptor, rest.baseAddress, rest.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}
