// Where the log's lines leave the process. Standard error may be a pipe that is not read, or a
// terminal that was stopped; the loops that log must not wait for it. Lines that it does not take
// at once are dropped and counted.

import CLibuv
import Glibc
import SmallocSystem

/// A descriptor that gets whole lines, and never keeps a thread waiting.
///
/// Owns a descriptor of its own where it had to open one, and not the one it was given.
final class LogOutput: Sendable {
    /// Bytes of a line with its end: what a pipe takes whole or not at all.
    static let lineSizeMax = Int(PIPE_BUF)

    private struct State {
        /// What has not left of a line that has begun to.
        var rest: [UInt8] = []
        /// Lines that did not leave, and were not told of yet.
        var dropped = 0
    }

    private let descriptor: Int32
    private let ownDescriptor: Int32?
    private let isSocket: Bool
    private let state = Locked(State())
    private let note: @Sendable (Int) -> String

    /// Makes an output.
    ///
    /// - Parameters:
    ///   - descriptor: What lines are written to; its mode is left alone, as other processes may
    ///     share it.
    ///   - note: The line that tells how many were dropped.
    init(_ descriptor: Int32, note: @escaping @Sendable (Int) -> String) {
        var status = stat()
        let kind = fstat(descriptor, &status) == 0 ? status.st_mode & S_IFMT : 0
        isSocket = kind == S_IFSOCK
        // Opened anew it has a mode of its own. A pipe without a reader, or of another user, can't
        // be; then there is only the look at whether it takes anything.
        let own =
            kind == S_IFIFO || kind == S_IFCHR
            ? open(
                "/proc/self/fd/\(descriptor)", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
            : -1
        ownDescriptor = own >= 0 ? own : nil
        self.descriptor = own >= 0 ? own : descriptor
        self.note = note
    }

    deinit { if let ownDescriptor { close(ownDescriptor) } }

    /// Writes a line, or drops and counts it.
    ///
    /// - Parameter line: Without its end. What is beyond `lineSizeMax` is cut off.
    func write(_ line: String) {
        state.withLock { state in
            if !(sendRest(&state) && put(line, &state)) { state.dropped += 1 }
        }
    }

    /// Writes what is due of earlier lines, and how many were dropped, if that is possible now.
    func flush() {
        state.withLock { _ = sendRest(&$0) }
    }

    /// Writes what is due of earlier lines.
    ///
    /// - Returns: Whether nothing of them is due any more.
    private func sendRest(_ state: inout State) -> Bool {
        while !state.rest.isEmpty {
            let count = state.rest.withUnsafeBytes { attempt($0) }
            guard count > 0 else { return false }
            state.rest.removeFirst(count)
        }
        guard state.dropped > 0 else { return true }
        guard put(note(state.dropped), &state) else { return false }
        state.dropped = 0
        return state.rest.isEmpty
    }

    /// Whether a line has begun to leave; its rest is kept.
    private func put(_ line: String, _ state: inout State) -> Bool {
        var bytes = Array(line.utf8)
        if bytes.count >= LogOutput.lineSizeMax {
            var end = LogOutput.lineSizeMax - 4
            // Not in the middle of a character.
            while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
            bytes = bytes[..<end] + [0x2E, 0x2E, 0x2E]
        }
        bytes.append(0x0A)
        let count = bytes.withUnsafeBytes { attempt($0) }
        guard count > 0 else { return false }
        state.rest = Array(bytes[count...])
        return true
    }

    /// Bytes that were taken; 0 or less: none.
    private func attempt(_ bytes: UnsafeRawBufferPointer) -> Int {
        while true {
            let count: Int
            if isSocket {
                count = send(
                    descriptor, bytes.baseAddress, bytes.count,
                    Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
            } else {
                var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                guard Glibc.poll(&poll, 1, 0) == 1 else { return 0 }
                count = Glibc.write(descriptor, bytes.baseAddress, bytes.count)
            }
            if count < 0 && errno == EINTR { continue }
            return count
        }
    }
}
