// `--timeout`: one limit for all that the daemon keeps a command waiting for.

import Foundation
import TestSupport
import Testing

@Suite("The tool's time limit", .timed, .serialized)
struct TimeLimitTests {
    private func seconds(_ work: () throws -> Void) rethrows -> Double {
        let start = Date()
        try work()
        return Date().timeIntervalSince(start)
    }

    @Test("a daemon that does not answer is given up when the time is over, and not before")
    func stopped() throws {
        let shell = try Shell()
        shell.daemon.signal(SIGSTOP)
        defer { shell.daemon.signal(SIGCONT) }
        let taken = try seconds {
            let result = try shell.run("cli ping --timeout 0.5")
            #expect(result.code == 69 && result.output.isEmpty)
            #expect(
                result.errors == "smalloc-cli: Error: no answer from the daemon in 0.5 s\n")
        }
        #expect(taken >= 0.5 && taken < 4, "\(taken)")
        let result = try shell.run("cli --json --timeout 0.1 read a")
        #expect(result.code == 69)
        #expect(
            result.errors == """
                {"error":{"status":"timedOut","class":"Error",\
                "message":"no answer from the daemon in 0.1 s"}}

                """)
    }

    @Test("connecting, the greeting and the answer share one time")
    func shared() throws {
        // Greets after most of the time, and then says nothing more.
        let server = try SlowServer(greetingAfter: 0.7)
        let shell = try Shell()
        let taken = try seconds {
            let result = try shell.run("cli ping --timeout 1 --address unix:\(server.path)")
            #expect(result.code == 69)
        }
        #expect(server.hasGreeted)
        #expect(taken >= 1 && taken < 1.65, "\(taken)")
    }

    @Test("a time of 0 waits for as long as it takes")
    func none() throws {
        let shell = try Shell()
        shell.daemon.signal(SIGSTOP)
        // Longer than the library's own time for connecting.
        DispatchQueue.global().asyncAfter(deadline: .now() + 5.5) { [pid = shell.daemon.pid] in
            kill(pid, SIGCONT)
        }
        let taken = try seconds {
            let result = try shell.run("cli ping -q --timeout 0")
            #expect(result.code == 0)
        }
        #expect(taken >= 5.4, "\(taken)")
    }

    @Test("waiting for a pipe, or between rounds, does not count")
    func others() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            (sleep 1; printf abc) | cli put a --timeout 0.7; cli cat a; echo
            mkfifo pipe; (sleep 1; printf def > pipe) &
            cli put b pipe --timeout 0.7; cli cat b; echo
            cli alloc c 1M; cli cat c --timeout 0.7 | (sleep 1; wc -c)
            cli ping -n 2 -q --timeout 0.7; echo $?
            cli stats allocations --watch -n 2 -i 1 --timeout 0.7 | tail -n 1
            """)
        #expect(output == "abc\ndef\n1048576\n0\nallocations  3\n")
    }

    @Test("a slow disk does not count", FileFaults.isThere)
    func slowDisk() throws {
        let output = try Shell().output(
            """
            printf abc | cli put a
            export LD_PRELOAD='\(FileFaults.library ?? "")' SMALLOC_TEST_SLOW_DISK=1500000
            cli get a f --timeout 0.7; echo $?; cli read a -o g --timeout 0.7; echo $?
            cat f g
            """)
        #expect(output == "0\n0\nabc97 98 99\n")
    }
}

/// A server that greets late, and answers nothing else.
private final class SlowServer: @unchecked Sendable {
    let path: String
    private let listener: Int32
    private let greeted = DispatchSemaphore(value: 0)

    /// Whether the greeting was sent.
    var hasGreeted: Bool { greeted.wait(timeout: .now()) == .success }

    init(greetingAfter seconds: Double) throws {
        path = try DaemonProcess.newFolder() + "/slow.sock"
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let isBound = withUnsafePointer(to: &name) { name in
            name.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, size) }
        }
        guard isBound == 0, listen(listener, 1) == 0 else {
            throw RawSocketError.system(call: "bind", number: errno)
        }
        let reply = try #require(Vectors.frames.first { $0.name == "hello reply" }).frame
        Thread.detachNewThread { [self] in
            let client = accept(listener, nil, nil)
            defer { close(client) }
            usleep(UInt32(seconds * 1e6))
            if send(client, reply, reply.count, Int32(MSG_NOSIGNAL)) == reply.count {
                greeted.signal()
            }
            // Until the other side has gone.
            var bytes = [UInt8](repeating: 0, count: 4096)
            while recv(client, &bytes, bytes.count, 0) > 0 {}
        }
    }

    deinit {
        close(listener)
        try? FileManager.default.removeItem(
            atPath: URL(fileURLWithPath: path).deletingLastPathComponent().path)
    }
}
