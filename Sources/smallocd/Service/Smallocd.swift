// The daemon's entry: settings, sockets, server, exit code.

import CLibuv
import CReserve
import CSmalloc
import Glibc
import Logging
import SmallocCore
import SmallocSystem

/// smallocd, the daemon.
@main
struct Smallocd {
    /// Reads the settings, listens, serves until told to stop.
    ///
    /// Exit codes are in `--help`.
    static func main() {
        openStandardDescriptors()
        // libuv writes with plain `write`: a peer that is gone must be an error, not our end.
        signal(SIGPIPE, SIG_IGN)
        // A client's lease on shared memory, or a limit on the size of files, must not end the
        // daemon.
        signal(SIGIO, SIG_IGN)
        signal(SIGXFSZ, SIG_IGN)
        // The process that started the daemon may have blocked the signals that stop it.
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        SystemMemory.prepare()
        // Before any other call of libuv.
        uv_replace_allocator(malloc, reserve_reallocate, calloc, free)
        let descriptorsMax = Machine.raiseDescriptorLimit()
        let environment = currentEnvironment()
        do throws(StartFailure) {
            let arguments = Array(CommandLine.arguments.dropFirst())
            let loaded = try Settings.load(arguments: arguments, environment: environment)
            try loaded.settings.checkDescriptors(max: descriptorsMax)
            let daemonLog = DaemonLog(
                isJournal: DaemonLog.isJournal(environment: environment),
                level: loaded.settings.logLevel)
            for warning in loaded.warnings { daemonLog.logger().warning("\(warning)") }
            // Beside the pool: the other loops, the one that reclaims memory, the one that ends a
            // stop at last, and that of HTTP.
            try ThreadPool.start(
                others: loaded.settings.loops + 1 + (loaded.settings.http == nil ? 0 : 1))
            var sockets = try ServiceManager.activatedSockets(environment: environment)
            if sockets.isEmpty || !loaded.settings.addressesAreDefault {
                sockets += try ListeningSocket.openAll(loaded.settings, beside: sockets)
            }
            let httpSocket: ListeningSocket?
            do throws(StartFailure) {
                httpSocket = try loaded.settings.openHTTP(beside: sockets)
            } catch {
                for socket in sockets { socket.close() }
                throw error
            }
            let server = Server(
                loaded, sockets: sockets, httpSocket: httpSocket, daemonLog: daemonLog,
                manager: ServiceManager(environment: environment))
            try server.run()
        } catch {
            error.leave()
        }
    }

    /// Before anything else is opened, which would get the number of one that is missing, and be
    /// written to or read as if it were that one.
    private static func openStandardDescriptors() {
        do {
            try StandardDescriptors.ensureOpen()
        } catch {
            StartFailure.system("can't open /dev/null: \(reason(error.number))").leave()
        }
    }

    private static func currentEnvironment() -> [String: String] {
        var variables: [String: String] = [:]
        guard var entry = smalloc_environment() else { return variables }
        while let pointer = entry.pointee {
            let text = String(cString: pointer)
            if let equals = text.firstIndex(of: "=") {
                variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            entry += 1
        }
        return variables
    }
}
