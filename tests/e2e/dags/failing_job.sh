#!/bin/bash
# Leaves something, and a link to what is not in its folder, and then fails.
echo "half a result" >partial.txt
ln -s / partial_elsewhere.txt
echo "the mesh has a hole" >&2
exit 3
