import Testing
import TestSupport

@testable import smallocd

@Suite("Machine memory", .timed)
struct MachineMemoryTests {
    private let meminfo = "MemTotal:       16777216 kB\nMemFree:  1 kB\n"

    private func detect(_ files: [String: String]) -> MachineMemory {
        let folder = TemporaryFolder()
        for (name, text) in files { folder.write(text, to: name) }
        return MachineMemory.detect(root: folder.path)
    }

    @Test("without a cgroup it is the machine's memory")
    func plain() {
        #expect(
            detect(["proc/meminfo": meminfo])
                == MachineMemory(size: 16 << 30, source: "machine"))
    }

    @Test("without anything readable it is 1 GiB")
    func unknown() {
        #expect(detect([:]) == MachineMemory(size: 1 << 30, source: "unknown"))
    }

    @Test("the least limit of the cgroup and its ancestors counts, max is none")
    func version2() {
        let memory = detect([
            "proc/meminfo": meminfo,
            "proc/self/cgroup": "0::/system.slice/smallocd.service\n",
            "sys/fs/cgroup/system.slice/smallocd.service/memory.max": "max\n",
            "sys/fs/cgroup/system.slice/smallocd.service/memory.high": "3221225472\n",
            "sys/fs/cgroup/system.slice/memory.max": "2147483648\n",
        ])
        #expect(
            memory
                == MachineMemory(
                    size: 2 << 30, source: "/sys/fs/cgroup/system.slice/memory.max"))
    }

    @Test("inside a container the limit stands at the root of the mount")
    func container() {
        let memory = detect([
            "proc/meminfo": meminfo, "proc/self/cgroup": "0::/../../elsewhere\n",
            "sys/fs/cgroup/memory.max": "536870912\n",
        ])
        #expect(memory.size == 512 << 20)
    }

    @Test("a cgroup of version 1 counts, its huge number is none")
    func version1() {
        let files = [
            "proc/meminfo": meminfo,
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/x\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        ]
        #expect(detect(files).source == "machine")
        let limited = files.merging([
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "1073741824\n"
        ]) { $1 }
        #expect(detect(limited).size == 1 << 30)
    }

    @Test("this machine has memory, a core and descriptors")
    func here() {
        let machine = Machine.current()
        #expect(machine.memorySize > 1 << 20)
        #expect(machine.cores >= 1)
        #expect(machine.descriptorsMax >= 16)
    }
}
