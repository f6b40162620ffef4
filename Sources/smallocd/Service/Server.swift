// The daemon while it runs: its loops, its listeners, its signals, its way out. On the main thread,
// which turns the first loop.

import CLibuv
import Glibc
import Logging
import SmallocCore
import SmallocWire
import Synchronization

/// Loops, acceptors and signals.
final class Server {
    private var loaded: LoadedSettings
    private let log: Logger
    private let daemonLog: DaemonLog
    private let manager: ServiceManager
    private let limits: SharedLimits
    private let loops: [Loop]
    private var acceptors: [Acceptor] = []
    /// The HTTP listener, if there is one.
    private var http: HTTPServer?
    private var threads: [pthread_t] = []
    private var signals: [UnsafeMutablePointer<uv_signal_t>] = []
    private let housekeeping = allocateUV(uv_timer_t.self)
    /// Told by each other loop's thread when its loop has ended, and what keeps the first loop
    /// turning until then: the main thread listens to signals as long as any loop has work left.
    private let othersEnded = allocateUV(uv_async_t.self)
    private let othersLeft = Atomic<Int>(0)
    private var isStopping = false

    /// How often the log is flushed and the watchdog told, at most.
    private static let housekeepingMilliseconds: UInt64 = 1000

    /// Prepares loops; nothing is served before `run`.
    ///
    /// - Parameters:
    ///   - sockets: Listening already, so that a client that comes early waits rather than fails.
    ///   - httpSocket: Where HTTP is served, if anywhere.
    init(
        _ loaded: LoadedSettings, sockets: [ListeningSocket], httpSocket: ListeningSocket?,
        daemonLog: DaemonLog, manager: ServiceManager
    ) {
        self.loaded = loaded
        self.daemonLog = daemonLog
        self.manager = manager
        log = daemonLog.logger()
        limits = SharedLimits(loaded.settings.limits)
        let count = loaded.settings.loops
        // An eighth of what may be used is kept warm at most, so that freed memory is soon useful
        // to others.
        let warm = Int(min(loaded.settings.limits.memorySizeMax / 8, 1 << 30))
        guard let registry = Registry(limits: limits, loops: count, warmSizeMax: warm) else {
            StartFailure.system("there is no thread to be had").leave()
        }
        let settings = loaded.settings
        registry.slowLog.set(
            threshold: settings.slowLogThreshold, length: settings.slowLogLength)
        let log = log
        loops = (0..<count).map {
            Loop(
                index: $0, registry: registry, busyPollMicroseconds: settings.busyPollMicroseconds,
                log: log)
        }
        // The first loop sets a timer; the work is done on the reclaiming thread.
        let first = loops[0]
        registry.onLease { [unowned first] in first.post(.leases) }
        acceptors = sockets.map { Acceptor($0, loops: loops, limits: limits, log: log) }
        for socket in sockets { log.info("listening at \(socket.description)") }
        http = httpSocket.map {
            HTTPServer($0, registry, tellsNames: settings.httpTellsNames)
        }
    }

    /// Serves until a signal says stop and all loops have drained.
    ///
    /// - Throws: A `StartFailure` if the system refuses a thread; it serves nothing then, and the
    ///   socket files are removed.
    func run() throws(StartFailure) {
        let me = Unmanaged.passUnretained(self).toOpaque()
        for number in [SIGTERM, SIGINT, SIGHUP] {
            let handle = allocateUV(uv_signal_t.self)
            check(uv_signal_init(loops[0].uv, handle), "uv_signal_init")
            handle.pointee.data = me
            check(uv_signal_start(handle, serverSignalled, number), "uv_signal_start")
            signals.append(handle)
        }
        check(uv_timer_init(loops[0].uv, housekeeping), "uv_timer_init")
        housekeeping.pointee.data = me
        let period = min(
            Server.housekeepingMilliseconds, (manager.watchdogMilliseconds ?? 2000) / 2)
        uv_timer_start(housekeeping, serverKeepsHouse, period, period)
        check(uv_async_init(loops[0].uv, othersEnded, serverLoopEnded), "uv_async_init")
        othersEnded.pointee.data = me
        try startHTTP()
        for loop in loops.dropFirst() { try start(loop) }
        log.info(
            "smallocd \(version) serves with \(loops.count) loop(s)",
            metadata: [
                "pid": "\(getpid())", "memory-max": "\(limits.memorySizeMax)",
                "shared-huge-pages": "\(SystemMemory.sharedHugePages)",
            ])
        if !SystemMemory.mapsFiles {
            log.warning("vm.overcommit_memory is 2: clients can map no memory, and use requests")
        }
        manager.ready(status: "serving")
        loops[0].run()
        for thread in threads { pthread_join(thread, nil) }
        http?.stop()
        log.info("stopped")
        daemonLog.flush()
    }

    /// Ends the process when a copy of gigabytes still runs after the time to stop: what it copies
    /// is gone with the daemon anyway, and the socket files are removed already.
    private static func endAtLast() {
        var thread = pthread_t()
        if pthread_create(&thread, nil, exitSoon, nil) == 0 { pthread_detach(thread) }
    }

    /// Milliseconds from the first signal to the end, whatever runs.
    fileprivate static let stopMilliseconds: UInt32 = 1900

    private func startHTTP() throws(StartFailure) {
        guard let http else { return }
        do throws(StartFailure) {
            try http.start()
        } catch {
            for acceptor in acceptors { acceptor.close() }
            throw error
        }
        log.info("HTTP is served at \(http.description)")
    }

    private func start(_ loop: Loop) throws(StartFailure) {
        loop.onEnded = { [unowned self] in
            othersLeft.subtract(1, ordering: .acquiringAndReleasing)
            uv_async_send(othersEnded)
        }
        var thread = pthread_t()
        let context = Unmanaged.passRetained(loop)
        let failed = pthread_create(&thread, nil, runLoop, context.toOpaque())
        guard failed == 0 else {
            context.release()
            for acceptor in acceptors { acceptor.close() }
            http?.close()
            throw .system("can't start a thread for loop \(loop.index): \(reason(failed))")
        }
        othersLeft.add(1, ordering: .relaxed)
        threads.append(thread)
    }

    // MARK: Signals

    fileprivate func signalled(_ number: Int32) {
        if number == SIGHUP { return reload() }
        if isStopping {
            log.notice("stopping at once")
            _exit(0)
        }
        stop(number)
    }

    private func stop(_ number: Int32) {
        isStopping = true
        log.info("stopping", metadata: ["signal": number == SIGINT ? "SIGINT" : "SIGTERM"])
        manager.stopping()
        for acceptor in acceptors { acceptor.close() }
        http?.close()
        // They are heard as long as the first loop turns, but are no reasons to turn.
        for handle in signals { uv_unref(UnsafeMutableRawPointer(handle).handle) }
        uv_unref(UnsafeMutableRawPointer(housekeeping).handle)
        for loop in loops { loop.post(.drain) }
        closeWhenOthersEnded()
        Server.endAtLast()
    }

    fileprivate func closeWhenOthersEnded() {
        guard isStopping, othersLeft.load(ordering: .acquiring) == 0 else { return }
        let handle = UnsafeMutableRawPointer(othersEnded).handle
        if uv_is_closing(handle) == 0 { uv_close(handle, nil) }
    }

    private func reload() {
        guard !isStopping else { return }
        manager.reloading()
        do throws(StartFailure) {
            let change = try loaded.reload()
            daemonLog.level = loaded.settings.logLevel
            limits.update(loaded.settings.limits)
            loops[0].context.registry.slowLog.set(
                threshold: loaded.settings.slowLogThreshold,
                length: loaded.settings.slowLogLength)
            for loop in loops { loop.post(.retime) }
            for warning in loaded.warnings { log.warning("\(warning)") }
            var changes: Logger.Metadata = [:]
            if !change.applied.isEmpty {
                changes["applied"] = "\(change.applied.joined(separator: ","))"
            }
            if !change.waiting.isEmpty {
                changes["needs-restart"] = "\(change.waiting.joined(separator: ","))"
            }
            log.notice("settings reread", metadata: changes)
        } catch {
            log.error("settings not reread: \(error.message)")
        }
        manager.ready(status: "serving")
    }

    // MARK: Housekeeping

    fileprivate func keepHouse() {
        daemonLog.flush()
        loops[0].context.registry.returnMemory()
        SystemMemory.keepReserve()
        http?.expire()
        guard let limit = manager.watchdogMilliseconds else { return }
        // Every loop ticks at least once a second, on the same clock: one that hangs is silence.
        let now = loops[0].now
        let alive = loops.allSatisfy {
            let tick = $0.lastTick.load(ordering: .relaxed)
            return tick == 0 || now < tick + max(limit, 3000)
        }
        if alive { manager.watchdog() }
    }
}

private func server(of data: UnsafeMutableRawPointer?) -> Server? {
    data.map { Unmanaged<Server>.fromOpaque($0).takeUnretainedValue() }
}

private func serverSignalled(_ handle: UnsafeMutablePointer<uv_signal_t>?, _ number: Int32) {
    server(of: handle?.pointee.data)?.signalled(number)
}

private func serverLoopEnded(_ handle: UnsafeMutablePointer<uv_async_t>?) {
    server(of: handle?.pointee.data)?.closeWhenOthersEnded()
}

private func serverKeepsHouse(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
    server(of: handle?.pointee.data)?.keepHouse()
}

private func runLoop(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    let loop = Unmanaged<Loop>.fromOpaque(context).takeRetainedValue()
    loop.run()
    loop.onEnded?()
    return nil
}

private func exitSoon(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    usleep(Server.stopMilliseconds * 1000)
    _exit(0)
}
