// Makes the n-th system call of a kind fail in a running daemon, by a library loaded into it.

import Foundation
import Testing
import TestSupport

/// What can fail; the numbers are those of Tests/Interposer/interposer.c.
enum FaultKind: Int32, CaseIterable, Sendable {
    case allocate = 0
    case map, unmap, advise
    case systemMap = 10
    case systemUnmap, systemAdvise, accept, thread, read, write, epoll, getOption, setOption
    case shutdown, largeBlock, memoryFile, passing, watch, seal, reopening

    /// What the system may say of such a call.
    var numbers: [Int32] {
        switch self {
        case .accept: [EMFILE, ENFILE, ENOMEM, ENOBUFS, ECONNABORTED, EAGAIN]
        case .thread: [EAGAIN]
        case .read: [ECONNRESET, EAGAIN, EINTR, ENOMEM]
        case .write: [EPIPE, EAGAIN, ECONNRESET, ENOBUFS, ENOMEM]
        case .epoll: [ENOMEM, ENOSPC]
        case .getOption, .setOption: [ENOBUFS, ENOMEM]
        case .shutdown: [ENOTCONN]
        case .memoryFile: [EMFILE, ENFILE, ENOMEM]
        case .passing: [EAGAIN, ENOBUFS, ETOOMANYREFS, EPIPE]
        case .watch: [ENOSPC, ENOMEM]
        case .seal: [EBUSY, EPERM, ENOMEM, EAGAIN]
        case .reopening: [EMFILE, ENFILE, EWOULDBLOCK, ENOENT]
        default: [ENOMEM]
        }
    }

    /// Calls that fail in a row, at most: after a refused accept the daemon rests.
    var countMax: Int { self == .accept ? 5 : 1000 }

    /// Whether it is a call that gives or takes memory back, and no call for a connection.
    var isOfMemory: Bool { rawValue < FaultKind.accept.rawValue }

    /// Whether a session makes any such call.
    var isMade: Bool { self != .thread }
}

/// The file that the library looks at.
final class FaultControl {
    let path: String
    private let words: UnsafeMutablePointer<Int32>
    private static let size = 4096

    /// Makes one by which nothing fails yet.
    init(folder: String) throws {
        path = folder + "/faults"
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0, ftruncate(file, off_t(FaultControl.size)) == 0 else {
            throw RawSocketError.system(call: "open \(path)", number: errno)
        }
        defer { close(file) }
        let start = mmap(nil, FaultControl.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
        guard let start, start != MAP_FAILED else {
            throw RawSocketError.system(call: "mmap", number: errno)
        }
        words = start.assumingMemoryBound(to: Int32.self)
        disarm()
    }

    deinit { munmap(words, FaultControl.size) }

    /// From now on lets `after` calls succeed, and fails those behind them.
    func arm(
        _ kind: FaultKind, after: Int, count: Int = 1, number: Int32 = ENOMEM, spared: Int32 = -1
    ) {
        disarm()
        let values = [Int32(after), Int32(count), number, spared, 0, -1, -1]
        for (index, value) in values.enumerated() { words[1 + index] = value }
        words[0] = kind.rawValue
    }

    /// Lets all calls succeed.
    ///
    /// - Returns: How many have failed since `arm`.
    @discardableResult
    func disarm() -> Int {
        words[0] = -1
        return Int(words[5])
    }

    /// The descriptor of the last call that failed.
    var failedDescriptor: Int32 { words[6] }
    /// The descriptor of the last call that was counted.
    var lastDescriptor: Int32 { words[7] }

    /// The library, compiled by the toolchain's C compiler; nil: there is none.
    static let library: String? = {
        let source = ProjectFolder.root.appendingPathComponent("Tests/Interposer/interposer.c").path
        let target = ProjectFolder.executable("smalloc-test-interposer.so")
        let options = ["-std=c11", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", target]
        for compiler in ["clang", "cc"] {
            let run = try? Spawn.run(["/usr/bin/env", compiler] + options + [source])
            if run?.code == 0 { return target }
        }
        return nil
    }()
}
