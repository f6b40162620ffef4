/// The servers that are measured.
enum ServerKind: String {
    case smallocd
    case redis
    case memcached
    /// A RAM disk: reads and writes, and nothing else.
    case nbdkit
    /// A C server that only answers: what the load generator and the sockets allow.
    case null

    /// The largest value that it can hold with the options below, in bytes.
    var valueSizeMax: Int {
        switch self {
        case .smallocd, .null: 1 << 30
        case .redis: 512 << 20
        case .memcached: 999 << 20
        // Of one request.
        case .nbdkit: 64 << 20
        }
    }

    /// The program and its arguments; nil for the null server, which each point sets up.
    ///
    /// Persistence is off, so that every server does the same work: hold bytes in memory.
    func arguments(
        _ address: Address, threads: Int, programs: Programs
    ) -> [String]? {
        switch self {
        case .smallocd:
            let listen =
                switch address {
                case .unix(let path): "unix:\(path)"
                case .tcp(let port): "tcp:127.0.0.1:\(port)"
                }
            return [programs.smallocd, "--listen", listen, "--loops", "\(threads)"]
                + programs.serverOptions
        case .redis:
            let listen =
                switch address {
                case .unix(let path): ["--port", "0", "--unixsocket", path]
                case .tcp(let port): ["--bind", "127.0.0.1", "--port", "\(port)"]
                }
            return [programs.redis] + listen
                + [
                    "--save", "", "--appendonly", "no", "--maxclients",
                    "\(programs.connectionsMax)",
                    "--io-threads", "1",
                ]
        case .memcached:
            let listen =
                switch address {
                case .unix(let path): ["-s", path, "-a", "0700"]
                case .tcp(let port): ["-l", "127.0.0.1", "-p", "\(port)", "-U", "0"]
                }
            return [programs.memcached] + listen
                + [
                    "-u", "root", "-m", "8192", "-I", "1000m", "-c",
                    "\(programs.connectionsMax)", "-t", "\(threads)",
                ]
        case .nbdkit:
            let listen =
                switch address {
                case .unix(let path): ["-U", path]
                case .tcp(let port): ["-i", "127.0.0.1", "-p", "\(port)"]
                }
            // With more threads a connection is answered out of order, and on more processors.
            return [programs.nbdkit, "-f", "-t", "1"] + listen
                + ["memory", "\(NBDDialect.diskSize)"]
        case .null:
            return nil
        }
    }
}

/// Where the measured programs are, and what they are started with.
struct Programs {
    var smallocd: String
    var redis = "redis-server"
    var memcached = "memcached"
    var nbdkit = "nbdkit"
    /// Connections that the peers are told to accept.
    var connectionsMax = 12_000
    /// Further options for smallocd.
    var serverOptions: [String] = []
}
