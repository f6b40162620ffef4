// What all subcommands share: finding the daemon, and turning failures into a line and an exit
// code.

import ArgumentParser
import Glibc
import Smalloc

/// Options of every subcommand.
struct CommonOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Where the daemon listens: unix:PATH or tcp:HOST:PORT.", valueName: "address"))
    var address: String?

    @Flag(help: "Print JSON, errors too.")
    var json = false

    @Option(
        help: ArgumentHelp(
            "Seconds to wait for the daemon, connecting included; 0: any time.",
            valueName: "seconds"))
    var timeout = 30.0

    func validate() throws {
        guard timeout >= 0, timeout <= 1e9 else {
            throw ValidationError("--timeout takes 0 to 1000000000 seconds")
        }
        do throws(SmallocError) {
            _ =
                if let address { try Smalloc.Address(connection: address) } else {
                    try Smalloc.Address.found()
                }
        } catch {
            // Not for the daemon to say: no connection was tried.
            throw ValidationError(
                address == nil ? "$SMALLOC_ADDRESS: \(error.message)" : error.message)
        }
    }

    /// Connects to the daemon, and begins the time in which the command must be done.
    func connect() throws(SmallocError) -> Smalloc {
        var options = Smalloc.Options()
        options.software = "smalloc-cli \(version)"
        // The library's times are each for one call; the limit is for all of them together.
        options.connectTimeout = .seconds(Int64.max)
        options.requestTimeout = nil
        // A command moves each byte once, so that it never earns back what moving the allocation to
        // memory that can be mapped costs: of 512 MiB a get takes 0.2 s without and 0.4 s with it,
        // a put 1.1 s and 1.4 s. And who reads by a mapping fills the holes of what is mapped.
        options.mapsLargeTransfers = false
        if timeout > 0 {
            let text = "no answer from the daemon in \(elementText(timeout)) s"
            let failure = Failure(nil, SmallocError(.timedOut, .error, text))
            TimeLimit.start(seconds: timeout, message: failure.line(isJSON: json) + "\n")
        }
        return try Smalloc(address, options: options)
    }
}

/// A subcommand that talks to a daemon.
protocol DaemonCommand: ParsableCommand {
    /// Address, output and timeout.
    var common: CommonOptions { get }

    /// The numbers of elements on the command line, by their names in the help.
    var counts: [(name: String, count: ElementCount?)] { get }

    /// What it reads from or prints to; without one of these it asks nothing of the daemon.
    var streams: [Stream] { get }

    /// Does the work.
    ///
    /// - Parameter daemon: A connection of its own.
    /// - Throws: `SmallocError`, `FileError`, or `Failure` with either and what it was about.
    func run(_ daemon: Smalloc) throws
}

extension DaemonCommand {
    var counts: [(name: String, count: ElementCount?)] { [] }
    var streams: [Stream] { [] }

    func run() throws {
        do {
            for stream in streams { try stream.require() }
            try run(try common.connect())
            try Output.standard.flush()
        } catch let exit as ExitCode {
            try? Output.standard.flush()
            throw exit
        } catch {
            try? Output.standard.flush()
            let failure = ((error as? Failure) ?? Failure(of: error)).blaming(counts)
            failure.tell(isJSON: common.json)
            throw ExitCode(failure.exitCode)
        }
    }

    /// Does something with each of some allocations, also behind one with which it fails.
    ///
    /// Each failure is told; the first one decides the exit code.
    ///
    /// - Throws: The first failure, told by whoever catches it, or at once one after which nothing
    ///   can go on.
    func forEach(_ names: [String], _ work: (String) throws -> Void) throws {
        var first: Failure?
        for name in names {
            do {
                try about(name) { try work(name) }
            } catch let failure as Failure {
                let isLast = (failure.cause as? SmallocError)?.isTransport ?? true
                if let first {
                    failure.tell(isJSON: common.json)
                    if isLast { throw ExitCode(first.exitCode) }
                } else if isLast {
                    throw failure
                } else {
                    // What was printed of those before it comes before it.
                    try? Output.standard.flush()
                    failure.tell(isJSON: common.json)
                    first = failure
                }
            }
        }
        if let first { throw ExitCode(first.exitCode) }
    }
}

/// An error, and which allocation or file it is about.
struct Failure: Error {
    /// A name or a path, if it is about one.
    let subject: String?
    /// What happened.
    let cause: any Error

    init(_ subject: String?, _ cause: any Error) {
        self.subject = subject
        self.cause = cause
    }

    /// An error that nothing is known of but itself: of files, only standard output's come so.
    init(of cause: any Error) {
        self.init(cause is FileError ? "standard output" : nil, cause)
    }

    /// See the tool's `--help`.
    var exitCode: Int32 {
        guard let error = cause as? SmallocError else { return cause is FileError ? 74 : 1 }
        if error.isTransport { return 69 }
        return switch error.errorClass {
        case .error: 1
        case .typeError: 2
        case .rangeError: 3
        }
    }

    /// The same failure; one of range names the numbers that could be in no range at all.
    ///
    /// The daemon's texts tell what it compared, not which word on the command line was to blame.
    func blaming(_ counts: [(name: String, count: ElementCount?)]) -> Failure {
        guard let error = cause as? SmallocError, error.errorClass == .rangeError else {
            return self
        }
        let words = counts.compactMap { name, count in
            count.flatMap { $0.isClamped ? "\(name) is \($0.word)" : nil }
        }
        guard !words.isEmpty else { return self }
        let message = "\(error.message) (\(words.joined(separator: ", ")))"
        return Failure(subject, SmallocError(error.status, error.errorClass, message))
    }

    /// One line on standard error.
    func tell(isJSON: Bool) {
        try? Output(descriptor: 2).write(line(isJSON: isJSON) + "\n")
    }

    /// What `tell` prints, without its end.
    func line(isJSON: Bool) -> String {
        if isJSON {
            var members: [(String, JSON)] = []
            if let error = cause as? SmallocError {
                members = [
                    ("status", .string(error.status.symbol)),
                    ("class", .string(error.errorClass.name)),
                    ("message", .string(error.message)),
                ]
                if let numbers { members.append(("detail", .string(numbers))) }
            } else {
                members = [("status", .string("file")), ("message", .string("\(cause)"))]
            }
            if let subject { members.append(("subject", .string(subject))) }
            return JSON.object([("error", .object(members))]).text
        }
        let place = subject.map { printable($0) + ": " } ?? ""
        // The place says already which allocation it was.
        let text = (cause as? SmallocError).map { error in
            "\(error.errorClass.name): \(error.message)" + (numbers.map { " (\($0))" } ?? "")
        }
        return "smalloc-cli: \(place)\(printable(text ?? "\(cause)"))"
    }

    /// The numbers that the error is about; what the subject says is left out of them.
    private var numbers: String? {
        guard let detail = (cause as? SmallocError)?.detail, detail != subject else { return nil }
        guard let subject, detail.hasPrefix("\(subject): ") else { return detail }
        return String(detail.dropFirst(subject.count + 2))
    }
}

/// Runs work that is about one allocation or file, so that its failure says which.
func about<Result>(_ subject: String, _ work: () throws -> Result) throws -> Result {
    do {
        return try work()
    } catch let failure as Failure {
        throw failure
    } catch let exit as ExitCode {
        throw exit
    } catch {
        throw error is FileError ? Failure(of: error) : Failure(subject, error)
    }
}

/// Runs work that fails where a name is taken, and says then that there is --force.
///
/// - Parameter isForced: Whether it was given.
func hintingForce<Result>(
    _ isForced: Bool, _ work: () throws(SmallocError) -> Result
) throws(SmallocError) -> Result {
    do throws(SmallocError) { return try work() } catch {
        throw error.status == .alreadyExists && !isForced ? error.hintingForce : error
    }
}

extension SmallocError {
    /// The same error, and what helps.
    var hintingForce: SmallocError {
        SmallocError(status, errorClass, message + "; --force takes its place")
    }
}

/// A text from outside on one line, without control characters: it may go to a terminal.
func printable(_ text: String) -> String {
    var line = ""
    for scalar in text.unicodeScalars {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator:
            line += "\\u{\(String(scalar.value, radix: 16))}"
        default: line.unicodeScalars.append(scalar)
        }
    }
    return line
}
