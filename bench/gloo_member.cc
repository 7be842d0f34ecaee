// The same collectives by torch.distributed.

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/collective_cases.h"

namespace sluice::bench {
namespace {

constexpr char kPython[] = "/usr/bin/python3";

// Serves the lines that LineProcesses::Time tells; verifies one element in 997.
constexpr char kProgram[] = R"py(
import datetime, sys
import torch
import torch.distributed as dist

port, rank, world = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group(
    'gloo', init_method='tcp://127.0.0.1:%d' % port, rank=rank,
    world_size=world, timeout=datetime.timedelta(seconds=100))
MIB = 1 << 20
big = torch.zeros(256 * MIB // 4)
other = torch.zeros(256 * MIB // 4)


def say(line):
    sys.stdout.write(line + '\n')
    sys.stdout.flush()


def pattern(owner, turn, elements):
    return float((owner * 31 + turn * 7) % 64 + 1)


def run(kind, a, b):
    if kind == 'broadcast':
        dist.broadcast(a, 0)
    elif kind == 'scatter':
        dist.scatter(b, list(a.chunk(world)) if rank == 0 else None, 0)
    elif kind == 'gather':
        dist.gather(a, list(b.chunk(world)) if rank == 0 else None, 0)
    elif kind == 'all_gather':
        dist.all_gather(list(b.chunk(world)), a)
    elif kind == 'all_to_all_single':
        dist.all_to_all_single(b, a)
    elif kind == 'all_reduce':
        dist.all_reduce(a)


def prepare(kind, turn):
    n = (256 if kind in ('broadcast', 'scatter', 'gather') else 64) * MIB // 4
    piece = n // world
    sizes = {'broadcast': (n, 0), 'scatter': (n, piece), 'gather': (piece, n),
             'all_gather': (piece, n), 'all_to_all_single': (n, n),
             'all_reduce': (n, 0)}[kind]
    a, b = big[:sizes[0]], other[:sizes[1]]
    a.fill_(pattern(rank, turn, n))
    b.fill_(-1)
    return a, b


def good(kind, turn, a, b):
    def owned(tensor):
        return all(bool((part[::997] == pattern(owner, turn, 0)).all())
                   for owner, part in enumerate(tensor.chunk(world)))
    if kind == 'broadcast':
        return bool((a[::997] == pattern(0, turn, 0)).all())
    if kind == 'scatter':
        return bool((b[::997] == pattern(0, turn, 0)).all())
    if kind == 'gather':
        return rank != 0 or owned(b)
    if kind == 'all_reduce':
        total = sum(pattern(owner, turn, 0) for owner in range(world))
        return bool((a[::997] == total).all())
    return owned(b)


dist.barrier()
say('up')
while True:
    line = sys.stdin.readline()
    if not line:
        break
    kind, turn = line.split()
    a, b = prepare(kind, int(turn))
    say('ready')
    sys.stdin.readline()
    run(kind, a, b)
    say('done')
    sys.stdin.readline()
    say('good' if good(kind, int(turn), a, b) else 'bad')
)py";

}  // namespace

int RunGlooMember(int port, int self, int members, int from_parent,
                  int to_parent) {
  dup2(from_parent, 0);
  dup2(to_parent, 1);
  setenv("OMP_NUM_THREADS", "1", 1);
  setenv("GLOO_SOCKET_IFNAME", "lo", 1);
  execl(kPython, kPython, "-c", kProgram, absl::StrCat(port).c_str(),
        absl::StrCat(self).c_str(), absl::StrCat(members).c_str(), nullptr);
  return 127;
}

absl::Status FindGloo() {
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError("no process");
  if (pid == 0) {
    close(2);
    execl(kPython, kPython, "-c",
          "import torch.distributed as d; assert d.is_available() and "
          "d.is_gloo_available() if hasattr(d, 'is_gloo_available') else "
          "d.is_available()",
          nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(kPython,
                   " has no torch.distributed with gloo (Debian's "
                   "python3-torch): nothing to compare with"));
}

}  // namespace sluice::bench
