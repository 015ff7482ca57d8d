"""SLURM cluster on this machine: munge, slurmctld, and one slurmd per node."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", "slurm-wlm", "munge")
DAEMONS = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

CONF = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
InactiveLimit=0
MinJobAge=300
KillWait=5
JobRequeue=1
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
"""
NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Sockets=1 "
    "CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=8000 State=UNKNOWN\n"
)
PARTITIONS = """\
PartitionName=low Nodes={nodes} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 State=UP
PartitionName=high Nodes={nodes} PriorityTier=10 PreemptMode=OFF State=UP
"""


def missing() -> str | None:
    """Install SLURM if possible; returns the reason if it cannot run here."""
    if not programs_found() and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (INSTALL, ("apt-get", "update"), INSTALL):
            if programs_found():
                break
            subprocess.run(command, capture_output=True, timeout=180, check=False)
    if programs_found():
        return None
    return f"SLURM is not installed and cannot be ({' '.join(INSTALL)} needs root and a network)"


def programs_found() -> bool:
    return all(shutil.which(program, path=DAEMONS["PATH"]) for program in PROGRAMS)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Cluster:
    """SLURM cluster of running daemons; commands use it through `environment`."""

    def __init__(self, folder: Path, n_nodes: int, cpus: int) -> None:
        self.folder = folder
        names = ["localhost"] if n_nodes == 1 else [f"node{i + 1}" for i in range(n_nodes)]
        conf = CONF.format(port=free_port(), user=getpass.getuser(), folder=folder)
        for name in names:
            conf += NODE.format(name=name, port=free_port(), cpus=cpus)
        conf += PARTITIONS.format(nodes=",".join(names))
        for part in ("munge", "state", *(f"spool.{name}" for name in names)):
            (folder / part).mkdir()
        folder.chmod(0o755)
        (folder / "munge").chmod(0o711)
        (folder / "slurm.conf").write_text(conf)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        path = f"{HERE}:{DAEMONS['PATH']}"
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        munge = folder / "munge"
        self.call("munged", "--force", f"--key-file={key}", f"--socket={munge}/munge.sock",
                  f"--pid-file={munge}/munged.pid", f"--log-file={munge}/munged.log",
                  f"--seed-file={munge}/munged.seed", "--num-threads=2")  # fmt: skip
        self.call("slurmctld", "-f", str(folder / "slurm.conf"))
        for name in names:
            self.call("slurmd", "-f", str(folder / "slurm.conf"), "-N", name)
        self.wait(
            lambda: self.call("sinfo", "-h", "-N", "-p", "low", "-o", "%T").count("idle") == n_nodes
        )

    def call(self, *command: str) -> str:
        """Run a SLURM command; returns its output."""
        done = subprocess.run(
            command, env=os.environ | self.environment, text=True, timeout=60, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ..."""
        shown = self.call("scontrol", "-o", "show", "job", job)
        return shown.partition("JobState=")[2].partition(" ")[0]

    def wait(self, happened: Callable[[], object], seconds: float = 200) -> None:
        """Wait until `happened()`; fails with the queue and the jobs' logs."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, self.call("squeue")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the jobs, then the daemons that this cluster started."""
        self.call("scancel", "--signal=KILL", "-u", getpass.getuser())
        self.call("scancel", "-u", getpass.getuser())
        for path in (*self.folder.glob("*.pid"), self.folder / "munge" / "munged.pid"):
            if path.exists():
                self._end(int(path.read_text()))

    def _end(self, pid: int) -> None:
        for number in (15, 9):
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    return
                time.sleep(0.1)
