# One static program, named by the build argument.
FROM scratch
ARG PROGRAM
COPY ${PROGRAM} /program
USER 65532:65532
ENTRYPOINT ["/program"]
