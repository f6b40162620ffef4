// The subcommand that prints what becomes of names, as it happens.

import ArgumentParser
import Smalloc
import SmallocSystem

struct Watch: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print what becomes of names, as it happens.",
        discussion: """
            A line for each event: allocated, disposed, truncated or frozen and the name, renamed \
            or replaced and both names. Where too many came at a time to be told, it is missed and \
            how many, or missed alone where the daemon does not know: look at ls then. Begins now, \
            and goes on until Ctrl-C.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "What the names begin with; all, if not given.", completion: .allocation)
    var prefix = ""
    @Option(
        name: .customShort("n"),
        help: ArgumentHelp("Lines to print at the most.", valueName: "count"))
    var count: Int?
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp(
            "Seconds to go on; until it is interrupted, if not given.", valueName: "seconds"))
    var seconds: Double?

    var streams: [Stream] { [.output] }

    func validate() throws {
        if let seconds, !(seconds >= 0 && seconds <= 1e9) {
            throw ValidationError("--for takes 0 to 1000000000 seconds")
        }
        if let count, count < 0 { throw ValidationError("-n takes 0 or more lines") }
    }

    func run(_ daemon: Smalloc) throws {
        let (prefix, count, json) = (prefix, count ?? .max, common.json)
        let time = seconds.map { Duration.nanoseconds(Int64($0 * 1e9)) }
        let failure = try about(prefix.isEmpty ? "watch" : prefix) {
            // On a connection for tasks: an interrupt takes the request back.
            try Interrupt.cancelling { () async throws(SmallocError) in
                let tasks = try await AsyncSmalloc(address: daemon.address, options: daemon.options)
                let watch = try await tasks.watch(prefix)
                // What is waited for is not the daemon's delay.
                _ = TimeLimit.pause()
                return try await Watch.limited(time) { () async throws(SmallocError) in
                    try await Watch.show(watch, count, json)
                }
            }
        }
        if let failure { throw failure }
    }

    /// Runs work for some time at the most.
    ///
    /// - Returns: Nil also where the time was up.
    private static func limited(
        _ time: Duration?,
        _ work: @escaping @Sendable () async throws(SmallocError) -> FileError?
    ) async throws(SmallocError) -> FileError? {
        let isOver = Flag()
        let task = Task { () -> Result<FileError?, SmallocError> in
            do throws(SmallocError) { return .success(try await work()) } catch {
                return .failure(error)
            }
        }
        let timer = Task {
            guard let time else { return }
            try await Task.sleep(for: time)
            isOver.set()
            task.cancel()
        }
        let result = await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
        timer.cancel()
        if isOver.isSet, case .failure(let error) = result, error.status == .cancelled {
            return nil
        }
        return try result.get()
    }

    /// Prints events, each at once.
    ///
    /// - Returns: Why they can't be printed any more.
    private static func show(
        _ watch: AsyncSmalloc.Watch, _ count: Int, _ json: Bool
    ) async throws(SmallocError) -> FileError? {
        guard count > 0 else { return nil }
        var left = count
        for try await event in watch {
            do throws(FileError) {
                try Output.standard.write((json ? event.json.text : event.line) + "\n")
                try Output.standard.flush()
            } catch {
                return error
            }
            left -= 1
            if left == 0 { break }
        }
        return nil
    }

    /// What a timer leaves.
    private final class Flag: Sendable {
        private let content = Locked(false)
        var isSet: Bool { content.withLock { $0 } }
        func set() { content.withLock { $0 = true } }
    }
}

extension Smalloc.Event {
    /// The word of the protocol.
    fileprivate var kind: String {
        switch self {
        case .allocated: "allocated"
        case .disposed: "disposed"
        case .renamed: "renamed"
        case .replaced: "replaced"
        case .truncated: "truncated"
        case .frozen: "frozen"
        case .missed: "missed"
        }
    }

    fileprivate var line: String {
        if case .missed(let count) = self { return kind + (count.map { " \($0)" } ?? "") }
        return ([kind] + [name, newName].compactMap { $0.map(printable) }).joined(separator: " ")
    }

    fileprivate var json: JSON {
        var members = [("event", JSON.string(kind))]
        if case .missed(let count) = self {
            members.append(("count", count.map(JSON.integer) ?? .null))
        }
        if let name { members.append(("name", .string(name))) }
        if let newName { members.append(("newName", .string(newName))) }
        return .object(members)
    }
}
