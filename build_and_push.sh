#!/usr/bin/env bash
# Builds Kennel's image for the machines SageMaker has, and puts it where SageMaker finds it: Amazon ECR.
# The last line on stdout is the image's URI; everything else goes to stderr.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: ./build_and_push.sh [options]

Builds the image, creates the ECR repository where it is missing, pushes, and prints the image's URI last.

  --local              build only: no AWS, nothing pushed
  --name NAME          image and repository name                  (kennel; for cpu kennel-cpu)
  --tag TAG            image tag                                  (latest)
  --region REGION      AWS region             ($AWS_REGION, $AWS_DEFAULT_REGION, the profile's)
  --account ID         AWS account            ($AWS_ACCOUNT_ID, whose credentials these are)
  --registry HOST      registry to push to                        (the account's ECR)
  --target cpu         an image that serves on a CPU and does nothing else, a tenth of the size ($TARGET)
  --base-image IMAGE   what the image starts from  ($BASE_IMAGE, the Dockerfile's; for cpu ubuntu:24.04)
  --pretrained NAMES   ImageNet weights to put inside, such as resnet18,resnet50 ($PRETRAINED)
  --no-cache           build every layer anew
  --expire-untagged DAYS
                       let ECR delete images without a tag so many days after they were pushed (never).
                       Pushing a tag again takes it from the image before, which a running endpoint may
                       still use: once that image is deleted, it can neither scale out nor replace a
                       machine.
                       Takes the place of the lifecycle policy that the repository has
  --dry-run            print each command, change nothing
  --help               this text

$DOCKER names the docker command where the first on PATH is not the one to use.
USAGE
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "build_and_push.sh: $*"; exit 1; }

# Prints a command as it could be typed, then runs it.
run() {
    { printf '+'; printf ' %q' "$@"; printf '\n'; } >&2
    [[ $dry_run == yes ]] || "$@" >&2
}

name=
tag=latest
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
account=${AWS_ACCOUNT_ID:-}
registry=
target=${TARGET:-}
base_image=${BASE_IMAGE:-}
pretrained=${PRETRAINED:-}
local_only=no
no_cache=no
expire_untagged=
dry_run=no
export AWS_PAGER=

while (($#)); do
    case $1 in
        --name | --tag | --region | --account | --registry | --target | --base-image | --pretrained | \
            --expire-untagged)
            [[ -n ${2:-} ]] || fail "$1 needs a value; see --help"
            option=${1#--}
            printf -v "${option//-/_}" '%s' "$2"
            shift 2
            ;;
        --local) local_only=yes; shift ;;
        --no-cache) no_cache=yes; shift ;;
        --dry-run) dry_run=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail "$1 is no option; see --help" ;;
    esac
done

[[ -z $target || $target == cpu ]] || fail "--target can only be cpu, got $target"
if [[ $target == cpu ]]; then
    [[ -z $pretrained ]] || fail "--pretrained is for training, which the image of --target cpu cannot do"
    base_image=${base_image:-ubuntu:24.04}
fi
name=${name:-kennel${target:+-$target}}
[[ $name =~ ^[a-z0-9]+([._/-][a-z0-9]+)*$ ]] ||
    fail "--name must be lower-case letters and digits, joined by . _ - or /, got $name"
[[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] ||
    fail "--tag must be letters, digits, . _ or -, at most 128 of them, got $tag"
[[ -z $expire_untagged || $expire_untagged =~ ^[1-9][0-9]{0,3}$ ]] ||
    fail "--expire-untagged must be a number of days from 1 to 9999, got $expire_untagged"
[[ -z $account || $account =~ ^[0-9]{12}$ ]] || fail "--account must be 12 digits, got $account"
image=$name:$tag

cd "$(dirname "${BASH_SOURCE[0]}")"

# ---- which docker: one that builds with BuildKit, and whose engine answers ----

# From version 23 on, BuildKit is the buildx plugin's; before, it was the client's own.
has_buildx() { "$1" buildx version >/dev/null 2>&1; }
has_buildkit() { has_buildx "$1" || DOCKER_BUILDKIT=1 "$1" build --help >/dev/null 2>&1; }

find_docker() {
    local candidate found=
    if [[ -n ${DOCKER:-} ]]; then
        command -v "$DOCKER" >/dev/null || fail "\$DOCKER names $DOCKER, which is not there"
        found=$DOCKER
        has_buildkit "$DOCKER" && { echo "$DOCKER"; return; }
    else
        while read -r candidate; do
            found=$candidate
            has_buildkit "$candidate" && { echo "$candidate"; return; }
        done < <(type -aP docker)
    fi
    [[ -n $found ]] || fail "docker is missing: install Docker, or name the command in \$DOCKER"
    fail "$found cannot build with BuildKit: install its buildx plugin, or name another docker in \$DOCKER"
}

check_engine() {
    local architecture platforms
    architecture=$("$docker" version --format '{{.Server.Arch}}' 2>/dev/null) ||
        fail "no Docker engine answers: start Docker, or name its address in DOCKER_HOST"
    [[ $architecture != amd64 ]] || return 0
    # Read to its end: docker fails where it writes to a grep that has gone.
    platforms=$("$docker" buildx inspect 2>/dev/null) || platforms=
    [[ $platforms == *linux/amd64* ]] ||
        fail "this Docker engine runs on $architecture and cannot run linux/amd64, which SageMaker needs:" \
            "install its emulation (docs.docker.com/build/building/multi-platform) or build elsewhere"
}

if [[ $dry_run == yes ]]; then
    docker=$( (find_docker) 2>/dev/null || echo docker)
else
    docker=$(find_docker)
    check_engine
fi

# ---- whose registry ----

find_registry() {
    # A dry run that was told everything asks AWS nothing.
    [[ $dry_run == yes && -n $region && -n $account ]] || command -v aws >/dev/null ||
        fail "the aws command is missing: pip install awscli, or build only with --local"
    [[ -n $region ]] || region=$(aws configure get region 2>/dev/null) ||
        fail "no AWS region: give --region, or set AWS_REGION"
    if [[ -z $account ]]; then
        account=$(aws sts get-caller-identity --region "$region" --query Account --output text 2>&1) ||
            fail "AWS does not say whose account this is: $(tail -n 1 <<<"$account")"
    fi
    local domain=amazonaws.com
    [[ $region != cn-* ]] || domain=amazonaws.com.cn
    [[ -n $registry ]] || registry=$account.dkr.ecr.$region.$domain
}

[[ $local_only == yes ]] || find_registry

# ---- build ----

# SageMaker refuses OCI manifests and the image index that buildx's attestations make: one platform, no
# attestations, Docker's own format.
build=("$docker" build)
if has_buildx "$docker"; then
    build=("$docker" buildx build --provenance=false --sbom=false --output type=docker)
fi
build+=(--platform linux/amd64 --tag "$image")
[[ -z $target ]] || build+=(--target "$target")
[[ $no_cache == no ]] || build+=(--no-cache)
build+=(--build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)")
if revision=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null); then
    build+=(--build-arg "REVISION=$revision")
fi
if remote=$(git config remote.origin.url 2>/dev/null); then
    # A clone's address may carry a token: it must not become a label.
    build+=(--build-arg "SOURCE=$(sed -E 's#//[^/@]*@#//#' <<<"$remote")")
fi
[[ -z $base_image ]] || build+=(--build-arg "BASE_IMAGE=$base_image")
[[ -z $pretrained ]] || build+=(--build-arg "PRETRAINED=$pretrained")

export DOCKER_BUILDKIT=1
run "${build[@]}" .

if [[ $local_only == yes ]]; then
    echo "$image"
    exit 0
fi

# ---- push ----

refuse_oci() {
    [[ $1 != *vnd.oci.image.* ]] ||
        fail "$2 holds the image in OCI's format, which SageMaker refuses (Unsupported manifest media type):" \
            "turn off Docker's containerd image store and run this again"
}

create_repository() {
    say "creating the repository $name"
    run aws ecr create-repository --region "$region" --registry-id "$account" --repository-name "$name" \
        --image-scanning-configuration scanOnPush=true
}

# Only where it is asked for: an endpoint goes on using an image by its digest when a later push has taken
# the tag, and nothing tells ECR which images those are.
let_untagged_expire() {
    local selection='"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days"'
    selection="{$selection,\"countNumber\":$expire_untagged}"
    run aws ecr put-lifecycle-policy --region "$region" --registry-id "$account" --repository-name "$name" \
        --lifecycle-policy-text \
        "{\"rules\":[{\"rulePriority\":1,\"selection\":$selection,\"action\":{\"type\":\"expire\"}}]}"
}

ensure_repository() {
    local answer
    if [[ $dry_run == yes ]]; then
        run aws ecr describe-repositories --region "$region" --registry-id "$account" --repository-names "$name"
        say "and where it is missing:"
        create_repository
    elif ! answer=$(aws ecr describe-repositories --region "$region" --registry-id "$account" \
        --repository-names "$name" 2>&1); then
        [[ $answer == *RepositoryNotFoundException* ]] ||
            fail "ECR does not answer for the repository $name: $(tail -n 1 <<<"$answer")"
        create_repository
    fi
}

# The password goes through a pipe: it is on no command line and in no output.
log_in() {
    say "+ aws ecr get-login-password --region $region | $docker login --username AWS --password-stdin $registry"
    [[ $dry_run == yes ]] || aws ecr get-login-password --region "$region" |
        "$docker" login --username AWS --password-stdin "$registry" >/dev/null ||
        fail "logging in to $registry did not work"
}

check_pushed() {
    local media_type
    media_type=$(aws ecr describe-images --region "$region" --registry-id "$account" --repository-name "$name" \
        --image-ids "imageTag=$tag" --query 'imageDetails[0].imageManifestMediaType' --output text 2>&1) ||
        say "the format of the pushed image could not be checked: $(tail -n 1 <<<"$media_type")"
    refuse_oci "$media_type" ECR
}

uri=$registry/$image
[[ $dry_run == yes ]] ||
    refuse_oci "$("$docker" image inspect --format '{{json .Descriptor}}' "$image" 2>/dev/null)" Docker
ensure_repository
[[ -z $expire_untagged ]] || let_untagged_expire
log_in
run "$docker" tag "$image" "$uri"
run "$docker" push "$uri"
[[ $dry_run == yes ]] || check_pushed
echo "$uri"
