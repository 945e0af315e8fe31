#!/usr/bin/env bash
# A SLURM cluster of one node on this machine, to try sweeps with; needs root and Debian's packages:
#   apt-get install slurmctld slurmd slurm-client munge
#   experiments/slurm_on_loopback.sh start [cores]      experiments/slurm_on_loopback.sh stop
set -euo pipefail
state=/var/lib/slurm-on-loopback
conf=/etc/slurm/slurm.conf

stop() {
  for name in slurmctld slurmd munged; do pkill -x "$name" || true; done
}

start() {
  local cores="${1:-$(nproc)}" host memory
  host="$(hostname -s)"
  memory="$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)"
  stop
  sleep 1
  mkdir -p "$state/spool" "$state/ctld" /run/munge /var/log/munge /etc/slurm
  [ -s /etc/munge/munge.key ] || dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none
  chown -R munge: /etc/munge /run/munge /var/log/munge /var/lib/munge
  chmod 400 /etc/munge/munge.key
  cat > "$conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobRequeue=1
ReturnToService=2
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=local Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  # Requeued jobs wait two minutes unless told otherwise (SLURM 22.05 does not listen); here somebody is watching.
  echo "SchedulerParameters=requeue_delay=5" >> "$conf"
  runuser -u munge -- munged
  slurmctld
  slurmd
  for _ in $(seq 30); do
    sleep 1
    sinfo -h -o %T 2>/dev/null | grep -q idle && break
    scontrol update nodename="$host" state=resume 2>/dev/null || true
  done
  sinfo
}

"${1:?start or stop}" "${@:2}"
